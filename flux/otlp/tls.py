"""TLS towards a collector: whether the files that are named can be used, and what went wrong, in words."""

from __future__ import annotations

import re
import ssl

_UNTRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED(?:\]? ?(?:certificate verify failed)?: ([\w -]+))?")
_OTHER_HOST = re.compile(r"hostname verification check failed|hostname mismatch|ip address mismatch", re.I)
_PLAIN = re.compile(r"WRONG_VERSION_NUMBER|record layer failure", re.I)


def unusable_authorities(path: str) -> str | None:
    """Why a file is no use as the certificates to trust; None where it is."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (ssl.SSLError, OSError):
        return "the file holds no certificate (PEM)"
    return None


def unusable_identity(certificate: str, key: str | None) -> str | None:
    """Why a client's certificate and its key are of no use; None where they are.

    Args:
        key: the key's file; None: it stands in the certificate's.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError) as error:
        mismatch = isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH"
        return "the key is not the certificate's" if mismatch else "certificate or key can't be read (PEM)"
    return None


def trouble(said: str) -> tuple[str, str] | None:
    """What a failed connection says of TLS, in words, and the variable to look at; None: nothing.

    Args:
        said: the error's text, as requests or gRPC have it.
    """
    if _OTHER_HOST.search(said):
        return "its certificate is another host's", "ENDPOINT"
    if found := _UNTRUSTED.search(said):
        why = (found[1] or "").strip()
        return f"its certificate is not trusted{f' ({why})' if why else ''}", "CERTIFICATE"
    if _PLAIN.search(said):
        return "it does not speak TLS", "ENDPOINT"
    return None
