"""What a secret may look like in a record: for tests that look for one."""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Iterator
from urllib.parse import quote


def spellings(secret: str) -> Iterator[tuple[str, bytes]]:
    """Names of encodings, and a text encoded so. Those of text are UTF-8."""
    raw, dumps = secret.encode(), json.dumps
    once = dumps({"a": secret})
    texts = {
        "raw": secret,
        "JSON": once,
        "JSON, not ASCII": dumps({"a": secret}, ensure_ascii=False),
        "JSON twice": dumps(once),
        "JSON three times": dumps({"b": dumps({"c": once})}),
        "JSON with escaped slashes": dumps(secret).replace("/", "\\/"),
        "u escapes": "".join(f"\\u{ord(c):04x}" for c in secret),
        "percent": quote(secret, safe=""),
        "encodeURIComponent": quote(secret, safe="!'()*"),
        "lower-case percent": "".join(f"%{b:02x}" for b in raw),
        "percent twice": quote(quote(secret, safe=""), safe=""),
        "a form": quote(secret, safe=" ").replace(" ", "+"),
        "percent in JSON": dumps({"u": "https://x/?k=" + quote(secret)}),
        "JSON in percent": quote(once),
        "HTML": html.escape(secret),
        "JSON in HTML": html.escape(once),
        "SQL": "x='" + secret.replace("'", "''") + "'",
        "SQL in JSON": dumps("x='" + secret.replace("'", "''") + "'"),
        "repr": repr(secret),
        "hex": raw.hex(),
        "HEX": raw.hex().upper(),
        "hex with colons": raw.hex(":"),
        "bytea": dumps("\\x" + raw.hex()),
    }
    for n in range(3):
        padded = b"u" * n + raw + b":zz"
        texts |= {
            f"base64 at {n}": base64.b64encode(padded).decode(),
            f"base64url at {n}": base64.urlsafe_b64encode(padded).decode(),
            f"JSON in base64 at {n}": base64.b64encode(b"u" * n + once.encode()).decode(),
            f"base64 in base64 at {n}": base64.b64encode(base64.b64encode(padded)).decode(),
            f"base64 in lines at {n}": base64.encodebytes(padded * 9).decode(),
            f"base64 in lines in JSON at {n}": dumps(base64.encodebytes(padded * 9).decode()),
            f"UTF-16 in base64 at {n}": base64.b64encode(("u" * n + secret).encode("utf-16-le")).decode(),
        }
    for name, text in texts.items():
        yield name, text.encode()
    for encoding in ("utf-16-le", "utf-16-be", "utf-16", "utf-32-le"):
        yield encoding, f"xx{secret}yy".encode(encoding)
    yield "a header", raw.decode("latin-1").encode()
    yield "gzip", b"abc" + gzip.compress(raw) + b"tail"
    yield "gzip in base64", dumps({"$bytea": base64.b64encode(gzip.compress(raw)).decode()}).encode()
