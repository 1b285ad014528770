"""`.env`: what its lines mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from flux.config import load, read_env_file
from flux.errors import ConfigError


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=plain # a comment", "plain"),
        ("export A='single \\n $x'", "single \\n $x"),
        (r'A="two\nlines \"quoted\" back\\slash \t"', 'two\nlines "quoted" back\\slash \\t'),
        (r'A="ends in\\"', "ends in\\"),
        ("A=", ""),
    ],
)
def test_a_line_is_a_name_and_its_value(tmp_path: Path, line: str, value: str) -> None:
    (tmp_path / ".env").write_text(f"# secrets\n\n{line}\n")
    assert read_env_file(tmp_path / ".env") == {"A": value}


def test_the_environment_comes_before_dot_env_which_is_kept_apart(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=of the file\nB=of the file\n")
    config = load(tmp_path, {"A": "of the environment"})
    assert config.environment == {"A": "of the environment", "B": "of the file"}
    assert config.env_file == {"A": "of the file", "B": "of the file"}


def test_a_line_that_is_none_is_named_without_its_value(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("sk-live-51HqX9zQ\n")
    with pytest.raises(ConfigError) as raised:
        read_env_file(tmp_path / ".env")
    assert "sk-live" not in str(raised.value)
