"""Text made fit for a terminal."""

from __future__ import annotations

import pytest

from flux.cli.output import encode
from flux.cli.render.ansi import Screen, Text
from flux.cli.render.safe import cut, safe, width, wrap


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\x1b[31mb", "a\\e[31mb"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x00\x07\x7f\x9b31m", "\\x00\\x07\\x7f\\x9b31m"),
        ("user\u202egpj.exe", "user\\u202egpj.exe"),
        ("a\u200bb\u2066c", "a\\u200bb\\u2066c"),
        ("\ud800", "\\ud800"),
        ("żółć 漢字", "żółć 漢字"),
    ],
)
def test_nothing_a_terminal_obeys_gets_through(text: str, shown: str) -> None:
    assert safe(text) == shown


def test_wide_characters_count_twice_and_combining_ones_not_at_all() -> None:
    assert width("abc") == 3
    assert width("漢字") == 4
    assert width("e\u0301") == 1
    assert width("👍") == 2


def test_a_cut_fits_and_says_so() -> None:
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abcde…"
    assert cut("漢字漢字", 5) == "漢字…"
    assert width(cut("漢字漢字", 6)) <= 6
    assert cut("abc", 0) == ""


def test_wrapping_breaks_between_words_and_within_long_ones() -> None:
    assert wrap("one two three", 7) == ["one two", "three"]
    assert wrap("abcdefgh", 3) == ["abc", "def", "gh"]
    assert wrap("", 5) == [""]


def test_json_output_escapes_what_would_reach_the_terminal() -> None:
    assert encode({"a": "\x1b[31m", "b": "\x9b1m\u202e\ud800", "c": "é"}) == (
        '{"a": "\\u001b[31m", "b": "\\u009b1m\\u202e\\ud800", "c": "é"}'
    )


class Stream:
    """A stream that says what it is."""

    def __init__(self, *, terminal: bool, encoding: str = "utf-8") -> None:
        self._terminal = terminal
        self.encoding = encoding
        self.text = ""

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> None:
        self.text += text


def test_colours_only_on_a_terminal_that_wants_them() -> None:
    line = Text.of(("x", "bold red"))
    for terminal, environment, shown in [
        (True, {}, "\x1b[1;31mx\x1b[0m\n"),
        (True, {"NO_COLOR": "1"}, "x\n"),
        (True, {"TERM": "dumb"}, "x\n"),
        (False, {}, "x\n"),
        (False, {"FORCE_COLOR": "1"}, "\x1b[1;31mx\x1b[0m\n"),
    ]:
        stream = Stream(terminal=terminal)
        Screen.of(stream, environment).print(line)
        assert stream.text == shown


def test_a_stream_without_unicode_gets_ascii() -> None:
    stream = Stream(terminal=False, encoding="ascii")
    Screen.of(stream, {}).print(Text.of("├─ a → b … 漢"))
    assert stream.text == "+- a -> b ... \\u6f22\n"


def test_columns_says_how_wide_the_screen_is() -> None:
    assert Screen.of(Stream(terminal=False), {"COLUMNS": "90"}).width == 90
    assert Screen.of(Stream(terminal=False), {"COLUMNS": "10"}).width == 60
