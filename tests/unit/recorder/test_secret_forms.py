"""A secret is found in whatever it was encoded, and nothing else is taken for one."""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from flux.recorder.folding import Folded
from flux.recorder.secret_forms import SecretForms

SECRETS = [
    "sk-live-51HqX9zQ",
    "line1\nline2\"quote\\back's",
    'sk-"live"/key\\é+42',
    "пароль-секрет",
    "日本語の秘密です",
    "abc%41def+/=",
    "C:\\new\\table",
    "nettoken-99",
    "u0041aaa1111",
    "tail-of-it\\",
    "it's a''b",
    "!!!!????****",
    "<a href='x'>&amp;",
]


def spellings(secret: str) -> Iterator[tuple[str, bytes]]:
    """What a secret may look like in a record."""
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


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(("before", "after"), [(b"", b""), (b'\xd9\x10"', b'"\xa3'), (b'{"k":"', b'"}')])
def test_a_secret_is_found_in_every_spelling(secret: str, before: bytes, after: bytes) -> None:
    secrets = SecretForms()
    secrets.add("KEY", secret)
    missed = []
    for name, spelled in spellings(secret):
        kept = secrets.remove(before + spelled + after)
        if b"[redacted" not in kept or secrets.within(kept) or not kept.startswith(before):
            missed.append((name, kept))
    assert missed == []


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"a":"x %s y","b":1}', '{"a":"x [redacted:KEY] y","b":1}'),
        ('{"a":"{\\"b\\":\\"%s\\"}"}', '{"a":"{\\"b\\":\\"[redacted:KEY]\\"}"}'),
        ("%s%s", "[redacted:KEY][redacted:KEY]"),
        ("a%%20%s%%20b", "a%%20[redacted:KEY]%%20b"),
    ],
)
def test_exactly_the_secret_is_withheld(text: str, kept: str) -> None:
    secrets = SecretForms()
    secrets.add("KEY", "sk-live-51HqX9zQ")
    assert secrets.remove_text(text.replace("%s", "sk-live-51HqX9zQ")) == kept


def test_json_stays_json_where_the_secret_was_escaped() -> None:
    secrets = SecretForms()
    secrets.add("KEY", '/path"to\\the\nkey')
    text = json.dumps(["a", '/path"to\\the\nkey'])
    for spelled in (text, text.replace("/", "\\/")):
        assert json.loads(secrets.remove_text(spelled))[-1] == "[redacted:KEY]"


def test_what_only_resembles_a_secret_is_kept() -> None:
    secrets = SecretForms()
    secrets.add("KEY", "my-app/name:x")
    secrets.add("WORD", "pro-duction")
    for text in ("my app name x", "my_app/name:x", "Pro-duction", "pro_duction"):
        assert secrets.remove_text(text) is text


def test_without_secrets_nothing_is_looked_at() -> None:
    secrets = SecretForms()
    assert not secrets
    data = b'{"a":1}'
    assert secrets.remove(data) is data


def test_where_each_part_of_a_canonical_form_stood() -> None:
    data = b'a%2541\\u00e9 \\\\n"b&amp;lt;c'
    folded = Folded(data)
    assert folded.text == "aAéb<c".encode()
    spans = [data[slice(*folded.origin(at, at + 1))] for at in (0, 1, 2, 4, 5, 6)]
    assert spans == [b"a", b"%2541", b"\\u00e9", b"b", b"&amp;lt;", b"c"]
