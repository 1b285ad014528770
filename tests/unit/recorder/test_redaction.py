"""What must not be read in a record isn't, and nothing else is touched."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from urllib.parse import quote

import pytest

from flux.record.call import Attempt, CallError
from flux.recorder.json_paths import JsonPaths
from flux.recorder.redaction import Redaction

SECRET = 'sk-"live"/key\\é+42'


def test_credential_headers_are_withheld_whatever_their_case() -> None:
    headers = [("Authorization", "Bearer x"), ("accept", "*/*"), ("SET-COOKIE", "a=b"), ("x-api-key", "k")]
    assert Redaction().headers(headers) == [
        ("Authorization", "[redacted]"),
        ("accept", "*/*"),
        ("SET-COOKIE", "[redacted]"),
        ("x-api-key", "[redacted]"),
    ]


def test_headers_without_credentials_are_the_same_list() -> None:
    headers = [("accept", "*/*")]
    assert Redaction().headers(headers) is headers


@pytest.mark.parametrize(
    ("path", "document", "expected"),
    [
        (
            "password",
            {"password": "a", "b": [{"password": {"c": 1}}]},
            {"password": "R", "b": [{"password": "R"}]},
        ),
        ("card.number", {"number": 1, "card": {"number": 2}}, {"number": 1, "card": {"number": "R"}}),
        ("card.number", {"cards": 0, "card": [{"number": 2}]}, {"cards": 0, "card": [{"number": "R"}]}),
        ("*.token", {"token": 1, "a": {"token": 2}}, {"token": 1, "a": {"token": "R"}}),
        ("a.*", {"a": {"x": 1, "y": [2]}, "b": 3}, {"a": {"x": "R", "y": "R"}, "b": 3}),
        (
            "a.b.c",
            {"x": {"a": {"b": {"c": 1}}}, "b": {"c": 2}},
            {"x": {"a": {"b": {"c": "R"}}}, "b": {"c": 2}},
        ),
        ("$.password", {"password": None}, {"password": "R"}),
        ("Password", {"PASSWORD": 1}, {"PASSWORD": "R"}),
        ("a.Größe", {"A": {"GRÖSSE": 1, "größe": 2}}, {"A": {"GRÖSSE": "R", "größe": "R"}}),
    ],
)
def test_a_path_matches_the_end_of_a_members_path(path: str, document: object, expected: object) -> None:
    after, _ = Redaction([path]).json_bytes(json.dumps(document).encode())
    assert json.loads(after.replace(b"[redacted]", b"R")) == expected


def test_json_in_which_nothing_matches_stays_byte_for_byte() -> None:
    data = b'{ "a" : 1.10, "password2": 1 }'
    assert Redaction(["password"]).json_bytes(data) == (data, False)


@pytest.mark.parametrize(
    "body",
    [
        b'{"card": {"holder": "Ada Lovelace"}, "ite',
        b"{'holder': 'Ada Lovelace'}",
        b'[{holder: "Ada Lovelace"}]',
        b'{"\\u0068older": "Ada Lovelace", }',
        b'\xef\xbb\xbf{"holder": "Ada Lovelace"',
    ],
)
def test_what_cannot_be_read_as_json_is_withheld_whole_where_a_path_may_be_in_it(body: bytes) -> None:
    assert Redaction(["card.holder"]).json_bytes(body) == (b'"[redacted]"', True)


@pytest.mark.parametrize(
    "inside", [b"[" * 5_000 + b"]" * 5_000, b"1" * 5_000, b'{"b":' * 2_000 + b"1" + b"}" * 2_000]
)
def test_what_python_cannot_read_is_withheld_where_it_stands(inside: bytes) -> None:
    body = b'{"a": %s, "Card": {"holder": {"x": %s}}, "b": 1.0}' % (inside, inside)
    kept = b'{"a": %s, "Card": {"holder": "[redacted]"}, "b": 1.0}' % inside
    assert Redaction(["card.holder"]).json_bytes(body) == (kept, True)
    rows = b'{"rows":[{"a":%s,"SSN":%s},{"ssn":null}]}' % (inside, inside)
    withheld = b'{"rows":[{"a":%s,"SSN":"[redacted]"},{"ssn":null}]}' % inside
    assert Redaction(columns=["users.ssn"]).result("db.sql", b"{}", rows) == withheld


@pytest.mark.parametrize(
    "body", [b'{"card": {"tok', b"the holder of this", b"\x89PNG\\u", b"", b"<p>placeholder"]
)
def test_what_is_no_json_and_names_no_path_stays_as_it_is(body: bytes) -> None:
    assert Redaction(["card.holder"]).json_bytes(body) == (body, False)


def test_an_escaped_member_name_does_not_get_past_the_quick_look() -> None:
    after, hit = Redaction(["password"]).json_bytes(b'{"p\\u0061ssword": "x"}')
    assert hit
    assert b'"x"' not in after


def test_numbers_beyond_64_bits_keep_their_digits_when_something_beside_them_is_withheld() -> None:
    after, _ = Redaction(["p"]).json_bytes(b'{"p":1,"n":123456789012345678901234567890}')
    assert after == b'{"p":"[redacted]","n":123456789012345678901234567890}'


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        json.dumps({"a": SECRET}),
        json.dumps({"a": SECRET}, ensure_ascii=False),
        json.dumps({"a": SECRET}).replace("/", "\\/"),
        f"https://x/?k={quote(SECRET, safe='')}&b=1",
        f"https://x/?k={quote(SECRET, safe='').lower()}",
        *("Basic " + base64.b64encode(f"{'u' * n}:{SECRET}".encode()).decode() for n in range(3)),
        base64.urlsafe_b64encode(f"x{SECRET}y".encode()).decode(),
    ],
)
def test_a_secret_is_found_in_every_usual_form(text: str) -> None:
    redaction = Redaction()
    redaction.add_secret("API KEY", "v1", SECRET)
    data = text.encode()
    assert redaction.secrets.within(data)
    after = redaction.secrets.remove(data)
    assert b"[redacted:API_KEY]" in after
    assert not redaction.secrets.within(after)


def test_values_under_eight_bytes_are_not_looked_for() -> None:
    redaction = Redaction()
    redaction.add_secret("PIN", "v1", "1234567")
    assert not redaction.secrets.within(b"1234567")
    assert redaction.secret_version("PIN", "1234567") == "v1"


def test_a_secret_within_another_leaves_nothing_of_the_longer_one() -> None:
    redaction = Redaction()
    redaction.add_secret("SHORT", "v1", "abcdefgh")
    redaction.add_secret("LONG", "v1", "abcdefgh-ijklmnop")
    assert redaction.secrets.remove(b"<abcdefgh-ijklmnop>") == b"<[redacted:LONG]>"


def test_fetch_arguments_lose_credentials_in_headers_urls_and_bodies() -> None:
    redaction = Redaction(["token"])
    arguments = {
        "url": "https://me:pass@host/a?token=t&b=1",
        "headers": [["Authorization", "Bearer z"], ["a", "b"]],
        "body": '{"token":"u"}',
    }
    after = json.loads(redaction.arguments("fetch", json.dumps(arguments).encode()))
    assert after == {
        "url": "https://[redacted]@host/a?token=[redacted]&b=1",
        "headers": [["Authorization", "[redacted]"], ["a", "b"]],
        "body": '{"token":"[redacted]"}',
    }


def test_fetch_arguments_without_credentials_are_the_same_bytes() -> None:
    data = b'{"url":"https://host/","headers":[["a","b"]],"body":"\\"x\\""}'
    assert Redaction().arguments("fetch", data) is data


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://host/a?token=t&b=1", "https://host/a?token=[redacted]&b=1"),
        ("https://host/a?tok%65n=t", "https://host/a?tok%65n=[redacted]"),
        (
            "https://host/a?user[token]=t&user.token=u",
            "https://host/a?user[token]=[redacted]&user.token=[redacted]",
        ),
        ("https://host/token?to=ken", "https://host/token?to=ken"),
    ],
)
def test_what_a_path_names_is_withheld_in_the_query_of_a_fetch(url: str, kept: str) -> None:
    arguments = json.dumps({"url": url, "headers": [["a", "b"]]}).encode()
    assert json.loads(Redaction(["token"]).arguments("fetch", arguments))["url"] == kept


FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=xYz"


def parts(**fields: str) -> bytes:
    return b"".join(
        f'--xYz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode("latin-1")
        for name, value in fields.items()
    ) + (b"--xYz--\r\n")


@pytest.mark.parametrize(
    ("content_type", "body", "kept"),
    [
        (FORM, b"user=ada&password=hunter2", b"user=ada&password=[redacted]"),
        (FORM + "; charset=UTF-8", b"p%61ssword=\xff&a", b"p%61ssword=[redacted]&a"),
        (FORM, b"card[number]=1&number=2", b"card[number]=[redacted]&number=2"),
        (FORM, b"items[0][card][number]=1", b"items[0][card][number]=[redacted]"),
        (MULTIPART, parts(user="ada", password="hunter2"), parts(user="ada", password="[redacted]")),
        (MULTIPART, parts(password="a\r\n\r\nb\xff"), parts(password="[redacted]")),
        ('Multipart/Form-Data; boundary="xYz"', parts(password="1"), parts(password="[redacted]")),
        (MULTIPART, parts(a='{"password":1}'), parts(a='{"password":"[redacted]"}')),
        (FORM, b"a=%7B%22password%22:1%7D", b"a=%7B%22password%22%3A%22[redacted]%22%7D"),
        ("multipart/form-data", parts(password="1"), b'"[redacted]"'),
        ("multipart/mixed; boundary=xYz", parts(password="1"), b'"[redacted]"'),
    ],
)
def test_fields_of_forms_are_withheld(content_type: str, body: bytes, kept: bytes) -> None:
    redaction = Redaction(["password", "card.number"])
    assert redaction.body(content_type, body) == (kept, True)
    headers = [["Content-Type", content_type]]
    binary = {"url": "http://h/", "headers": headers, "body": {"$bytea": base64.b64encode(body).decode()}}
    after = json.loads(redaction.arguments("fetch", json.dumps(binary).encode()))
    assert base64.b64decode(after["body"]["$bytea"]) == kept


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (FORM, b"user=ada&pass=word"),
        (FORM, b'{"text":"a&password=1"}'),
        ("text/plain", b"password=1"),
        (MULTIPART, parts(user="password=1")),
    ],
)
def test_bodies_without_such_a_field_are_the_same_bytes(content_type: str, body: bytes) -> None:
    kept, hit = Redaction(["password"]).body(content_type, body)
    assert kept is body
    assert not hit


def test_columns_are_withheld_in_arguments_results_and_rolled_back_rows() -> None:
    redaction = Redaction(columns=["users.ssn"])
    arguments = b'{"table":"users","data":{"ssn":"1","a":2},"filters":{"ssn":"1"}}'
    assert json.loads(redaction.arguments("db.query", arguments)) == {
        "table": "users",
        "data": {"ssn": "[redacted]", "a": 2},
        "filters": {"ssn": "[redacted]"},
    }
    rows = b'{"rows":[{"ssn":"1"},{"ssn":null}]}'
    assert redaction.result("db.query", arguments, rows) == b'{"rows":[{"ssn":"[redacted]"},{"ssn":null}]}'
    assert redaction.result("db.query", b'{"table":"pets"}', rows) is rows
    assert b'"1"' not in redaction.result("db.sql", b"{}", rows)
    inside = b'{"rows":[{"j":{"ssn":"1","a":[{"ssn":"1"}]}}]}'
    assert redaction.result("db.sql", b"{}", inside) == inside.replace(b'"1"', b'"[redacted]"')
    assert redaction.result("db.query", arguments, inside) == inside
    attempt = Attempt(1, 1, "public", "users", "UPDATE", b'{"id":1}', b'{"ssn":"1"}', b'{"ssn":"2"}', 0)
    redaction.attempt(attempt)
    assert (attempt.before, attempt.after) == (b'{"ssn":"[redacted]"}', b'{"ssn":"[redacted]"}')
    assert attempt.key == b'{"id":1}'


def test_paths_know_their_quick_look() -> None:
    assert not JsonPaths([]).may_match(b'{"a":1}')
    assert not JsonPaths(["b"]).may_match(b'{"a":1}')
    assert not JsonPaths(["b.*"]).may_match(b'{"a":1}')
    assert JsonPaths(["*"]).may_match(b'{"a":1}')


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "Proxy-Authorization",
        "x-auth",
        "X-Auth-Key",
        "x-signature",
        "x-hub-signature-256",
        "api_key",
        "API-KEY",
        "x-api-key",
        "apikey",
        "cookie",
        "set-cookie",
        "Set-Cookie2",
        "x-session-id",
        "x-amz-security-token",
        "x-functions-key",
        "ocp-apim-subscription-key",
        "x-password",
        "x-client-secret",
        "x-csrf-token",
        "x-credentials",
        "private-token",
        "x-jwt",
        "x-webhook-sig",
        "secretkey",
        "x-flux-key",
        "authentication",
        "x-forwarded-authorization",
        "x-goog-iam-authorization-token",
        "x_user_pwd",
        "webhook.secret",
    ],
)
def test_headers_that_carry_credentials_are_told_by_their_names(name: str) -> None:
    assert Redaction().headers([(name, "v")]) == [(name, "[redacted]")]


@pytest.mark.parametrize(
    "name",
    [
        "accept",
        "content-type",
        "host",
        "user-agent",
        "x-request-id",
        "traceparent",
        "etag",
        "author",
        "x-author",
        ":authority",
        "x-forwarded-for",
        "www-authenticate",
        "idempotency-key",
        "sec-websocket-key",
        "access-control-allow-credentials",
        "keep-alive",
        "x-keyboard",
        "monkey-x",
        "x-ratelimit-remaining-tokens",
        "content-length",
        "location",
        "origin",
        "x-sidecar",
        "x-pinned",
        "x-compass",
    ],
)
def test_other_headers_are_kept(name: str) -> None:
    headers = [(name, "v")]
    assert Redaction().headers(headers) is headers


def test_a_project_adds_header_names_and_takes_some_out() -> None:
    redaction = Redaction(headers=["X-Acme-*", "!x-acme-region", "!x-session-mode"])
    names = ["x-acme-id", "X-ACME-Region", "x-session-mode", "x-session-id"]
    assert [value for _, value in redaction.headers([(name, "v") for name in names])] == [
        "[redacted]",
        "v",
        "v",
        "[redacted]",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "https://ghp_token@github.com/a",
        "see https://user:ghp_token@host:1/x?y",
        json.dumps({"u": "https://ghp_token@github.com"}).replace("/", "\\/"),
        "?next=https%3A%2F%2Fghp_token%40host%2F",
        "postgres://app:ghp_token@db/x",
    ],
)
def test_the_user_of_a_url_is_withheld_wherever_it_stands(text: str) -> None:
    kept = Redaction().secrets.remove_text(text)
    assert "ghp_token" not in kept
    assert "[redacted]" in kept


@pytest.mark.parametrize(
    "text",
    ["mail ada@example.org", "https://host/a@b", "https://host?m=a@b", "http://host/ and me@x", "a://b c@d"],
)
def test_other_signs_at_are_kept(text: str) -> None:
    assert Redaction().secrets.remove_text(text) is text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Failing row contains (1, a (b) c, null).", "Failing row contains ([redacted])."),
        ("Key (email)=(ada@x.org) already exists.", "Key (email)=([redacted]) already exists."),
        (
            "Key (lower(Email), n)=(ada, 2) already exists.",
            "Key (lower(Email), n)=([redacted]) already exists.",
        ),
        ('Key (id)=(7) is not present in table "a".', 'Key (id)=(7) is not present in table "a".'),
        (
            "Partition key of the failing row contains (email) = (ada).",
            "Partition key of the failing row contains (email) = ([redacted]).",
        ),
    ],
)
def test_withheld_columns_do_not_come_back_in_the_details_of_errors(text: str, kept: str) -> None:
    redaction = Redaction(columns=["users.email"])
    error = CallError("not_null_violation", "m", {"detail": text, "table": "users"})
    assert redaction.error(error).detail["detail"] == kept
    assert Redaction().error(error) is error


def test_parameters_of_a_statement_that_names_a_withheld_column_are_withheld() -> None:
    redaction = Redaction(columns=["users.email"])
    named = b'{"text":"insert into users (EMAIL) values ($1)","params":["ada@x.org"]}'
    other = b'{"text":"insert into pets (name) values ($1)","params":["rex"]}'
    assert redaction.arguments("db.sql", named).endswith(b'"params":"[redacted]"}')
    assert redaction.arguments("db.sql", other) is other


def test_json_in_a_string_of_json_is_looked_into() -> None:
    inner = json.dumps({"a": json.dumps({"Password": "hunter22", "b": 1})})
    kept, hit = Redaction(["password"]).json_bytes(json.dumps({"payload": inner}).encode())
    assert hit
    assert json.loads(json.loads(json.loads(kept)["payload"])["a"]) == {"Password": "[redacted]", "b": 1}


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", ""])
def test_compressed_bodies_that_may_hold_what_a_path_names_are_withheld_whole(encoding: str) -> None:
    pack = zlib.compress if encoding == "deflate" else gzip.compress
    body = pack(b'{"password":"hunter22"}')
    assert Redaction(["password"]).body("application/json", body, encoding) == (b'"[redacted]"', True)
    if encoding != "br":
        harmless = pack(b'{"name":"ada"}')
        assert Redaction(["password"]).body("application/json", harmless, encoding) == (harmless, False)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32-be"])
def test_wide_json_is_withheld_whole_where_a_path_is_in_it(encoding: str) -> None:
    body = '{"password":"hunter22"}'.encode(encoding)
    assert Redaction(["password"]).json_bytes(body) == (b'"[redacted]"', True)


def test_a_path_loses_the_parameters_that_are_withheld() -> None:
    redaction = Redaction(["Token"])
    params = {"token": "a b/c", "id": "7"}
    assert redaction.params(params) == {"token": "[redacted]", "id": "7"}
    for path in ("/reset/a%20b%2Fc/7", "/reset/a%20b/c/7", "/reset/a b/c/7"):
        assert redaction.path(path, params) == "/reset/[redacted]/7"
    assert Redaction().path("/reset/x/7", {"token": "x"}) == "/reset/x/7"


def test_a_log_message_that_is_json_is_read_as_such() -> None:
    redaction = Redaction(["password"])
    assert redaction.message('{"password":"hunter22"}') == '{"password":"[redacted]"}'
    for text in ("the password is long", '{"a":1}', '"password"'):
        assert redaction.message(text) is text
