"""A secret is found in whatever it was encoded, and nothing else is taken for one."""

from __future__ import annotations

import json
import time

import pytest

from flux.recorder.folding import SET_ASIDE, Folded
from flux.recorder.row_details import spans_of
from flux.recorder.secret_forms import SecretForms
from tests.spellings import spellings

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
    folded = Folded(data).without(SET_ASIDE)
    assert folded.text == "aAéb<c".encode()
    spans = [data[slice(*folded.origin(at, at + 1))] for at in (0, 1, 2, 4, 5, 6)]
    assert spans == [b"a", b"%2541", b"\\u00e9", b"b", b"&amp;lt;", b"c"]


@pytest.mark.parametrize(
    "unit", [b"\\", b"\\u", b"%", b"&#", b"://", b":\\/", b"H4sI", b"\x1f\x8b\x08", b"Key (", b")=("]
)
def test_no_text_takes_long_to_look_through(unit: bytes) -> None:
    secrets = SecretForms(spans_of([b"email"]))
    secrets.add("KEY", "sk-live-51HqX9zQ")
    text = unit * (2**18 // len(unit)) + b"sk-live-51HqX9zQ"
    began = time.process_time()
    assert secrets.remove(text).endswith(b"[redacted:KEY]")
    assert time.process_time() - began < 5


def test_each_line_of_a_secret_of_several_is_found_by_itself() -> None:
    secrets = SecretForms()
    inside = "MIIEvQIBADANBgkqhkiG9w0B\n  AQEFAASCBKcwggSjAgEAAoIB  \r\nshort\n"
    key = f"-----BEGIN PRIVATE KEY-----\n{inside}-----END PRIVATE KEY-----\n"
    secrets.add("PEM", key)
    for line in key.splitlines():
        kept = secrets.remove(f"log: {line}.".encode())
        assert (b"[redacted:PEM]" in kept) == (line[:2] in ("MI", "  ")), line
    assert secrets.remove(f"<{key}>".encode()).count(b"[redacted:PEM]") == 1
