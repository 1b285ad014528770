"""Discovery: what counts as a function, and how its mistakes are told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flux.config import Config
from flux.runtime.functions import Discovery, Problem, discover, routes_of
from flux.runtime.routes import Match


def project(root: Path, files: dict[str, str]) -> Discovery:
    functions = root / "functions"
    functions.mkdir(exist_ok=True)
    for name, text in files.items():
        path = functions / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return discover(functions, Config(root=root))


def only(discovery: Discovery) -> Problem:
    assert len(discovery.problems) == 1, discovery.problems
    return discovery.problems[0]


def test_entries_are_found_by_file_and_defaults_filled_in(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        {
            "a/index.ts": "",
            "a/index.js": "",
            "b/index.js": "",
            "c/main.py": "",
            "_lib/util.py": "",
            ".git/x/main.py": "",
            "node_modules/y/index.js": "",
            "c/.env": "SECRET=1",
            "c/__pycache__/main.cpython-311.pyc": "",
        },
    )
    assert found.problems == []
    assert [(f.name, f.runtime, f.entry, f.route, f.methods) for f in found.functions] == [
        ("a", "typescript", "a/index.ts", "/a", ("POST",)),
        ("b", "typescript", "b/index.js", "/b", ("POST",)),
        ("c", "python", "c/main.py", "/c", ("POST",)),
    ]
    assert [path.relative_to(tmp_path / "functions").as_posix() for path in found.functions[2].files] == [
        "_lib/util.py",
        "c/main.py",
    ]
    assert found.functions[2].config == {
        "method": ["POST"],
        "async": False,
        "timeout_ms": 30_000,
        "record": "all",
        "runtime": "python",
        "entry": "main.py",
        "route": "/c",
    }


def test_flux_json_sets_route_method_entry_and_limits(tmp_path: Path) -> None:
    text = (
        '{"route": "/users/{id}", "method": ["get", "PUT"], "entry": "src/app.py",'
        ' "timeout_ms": 50, "record": "errors"}'
    )
    found = project(tmp_path, {"u/flux.json": text, "u/src/app.py": ""})
    assert found.problems == []
    assert found.functions[0].entry == "u/src/app.py"
    assert found.functions[0].config["method"] == ["GET", "PUT"]
    assert found.functions[0].config["timeout_ms"] == 50
    assert routes_of(found.functions).match("GET", "/users/7") == Match("u", {"id": "7"})


def test_a_json_error_has_its_line_and_column_and_hides_no_other_function(tmp_path: Path) -> None:
    found = project(tmp_path, {"a/main.py": "", "b/main.py": "", "b/flux.json": '{\n  "route": "/b",\n}'})
    assert [f.name for f in found.functions] == ["a"]
    problem = only(found)
    assert (problem.function, problem.file, problem.line, problem.column) == (
        "b",
        "functions/b/flux.json",
        3,
        1,
    )
    assert problem.hint == "Remove the comma before it."


@pytest.mark.parametrize(
    ("text", "line", "column", "said", "hint"),
    [
        ('{\n  "rout": "/b"}', 2, 3, "Unknown key `rout`", "Did you mean `route`?"),
        ('{"route": 3}', 1, 2, "`route`: must be a string, not a number", None),
        ('{"schema": {"method": 1}, "method": 7}', 1, 27, "`method`: must be an HTTP method", None),
        ('{"method": "FETCH"}', 1, 2, "`FETCH` is none of", None),
        ('{"timeout_ms": "5"}', 1, 2, "whole number of milliseconds, not a string", None),
        ('{"timeout_ms": true}', 1, 2, "not a boolean", None),
        ('{"timeout_ms": 0}', 1, 2, "between 1 and", None),
        ('{"record": "some"}', 1, 2, "one of all, errors, none", None),
        ('{"route": "/a/{x"}', 1, 2, "whole segment", None),
        ('{"route": "/_flux/x"}', 1, 2, "keeps for itself", None),
        ('{"runtime": "wasm"}', 1, 2, "WebAssembly functions are not served by this version yet", None),
        ('{"runtime": "ruby"}', 1, 2, "one of typescript, python", None),
        (
            '{"runtime": "typescript"}',
            1,
            2,
            "There is no index.ts or index.js here",
            'Add it, or name another file as "entry".',
        ),
        ('{"entry": "../x.py"}', 1, 2, "outside the function's folder", None),
        ('{"entry": "/etc/passwd"}', 1, 2, "outside the function's folder", None),
        ('{"entry": "gone.py"}', 1, 2, "does not exist", None),
        ('{"entry": "main.py", "runtime": "typescript"}', 1, 2, "is not typescript", None),
        ('{"entry": "flux.json"}', 1, 2, "neither TypeScript", None),
        ('{"async": 1}', 1, 2, "true or false", None),
        ('{"route": "/a", "route": "/b"}', 1, 17, "twice", None),
        ("[]", None, None, "must hold an object", None),
        ('{"timeout_ms": NaN}', None, None, "NaN is not a JSON number", None),
    ],
)
def test_a_wrong_setting_is_placed_and_explained(
    tmp_path: Path, text: str, line: int | None, column: int | None, said: str, hint: str | None
) -> None:
    found = project(tmp_path, {"b/main.py": "", "b/flux.json": text})
    assert found.functions == []
    problem = next(problem for problem in found.problems if problem.severity == "error")
    assert said in problem.message
    assert (problem.line, problem.column, problem.hint) == (line, column, hint)


def test_a_setting_without_effect_is_a_warning_and_the_function_is_served(tmp_path: Path) -> None:
    text = '{"auth": "user", "cors": false, "cron": "* * * * *", "async": true}'
    found = project(tmp_path, {"b/main.py": "", "b/flux.json": text})
    assert [f.name for f in found.functions] == ["b"]
    assert [(p.severity, p.message.split(" ")[0], p.column) for p in found.problems] == [
        ("warning", "`auth`", 2),
        ("warning", "`cron`", 33),
        ("warning", "`async`", 54),
    ]
    assert "anyone" in found.problems[0].message


def test_of_two_functions_on_one_route_the_first_keeps_it(tmp_path: Path) -> None:
    found = project(
        tmp_path,
        {
            "a/main.py": "",
            "a/flux.json": '{"route": "/x/{id}"}',
            "b/main.py": "",
            "b/flux.json": '{"route": "/x/{key}"}',
            "c/main.py": "",
            "c/flux.json": '{"route": "/x/{id}", "method": "GET"}',
        },
    )
    assert [f.name for f in found.functions] == ["a", "c"]
    assert only(found).function == "b"
    assert only(found).message == "POST /x/{key} is already the route of function `a`."


@pytest.mark.parametrize(
    ("files", "severity", "said"),
    [
        ({"w/main.wasm": ""}, "error", "WebAssembly functions are not served"),
        ({"w/main.py": "", "w/index.ts": ""}, "error", "both index.ts and main.py"),
        ({"w/readme.md": ""}, "error", "no index.ts, index.js or main.py"),
        ({"w w/main.py": ""}, "error", "can't be a function's name"),
        ({"hello.ts": ""}, "warning", "A function is a folder"),
        ({"w/.keep": ""}, "warning", "empty"),
    ],
)
def test_a_folder_that_is_no_function_says_why(
    tmp_path: Path, files: dict[str, str], severity: str, said: str
) -> None:
    found = project(tmp_path, {"ok/main.py": "", **files})
    assert [f.name for f in found.functions] == ["ok"]
    assert only(found).severity == severity
    assert said in only(found).message


def test_a_missing_functions_folder_is_a_warning(tmp_path: Path) -> None:
    found = discover(tmp_path / "functions", Config(root=tmp_path))
    assert found.functions == []
    assert only(found).severity == "warning"


def test_links_may_not_lead_out_of_the_functions_folder(tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text("x")
    project(tmp_path, {"a/main.py": "", "b/main.py": "", "c/main.py": "", "d/main.py": "", "_lib/x.py": ""})
    functions = tmp_path / "functions"
    os.symlink(tmp_path / "outside.py", functions / "a" / "data.py")
    os.symlink("gone", functions / "b" / "data.py")
    os.symlink(functions / "_lib", functions / "c" / "lib")
    os.symlink(functions / "d", functions / "d" / "again")
    found = discover(functions, Config(root=tmp_path))
    assert [f.name for f in found.functions] == ["c"]
    assert functions / "c" / "lib" / "x.py" in found.functions[0].files
    messages = {problem.function: problem.message for problem in found.problems}
    assert "leads out of the functions folder" in messages["a"]
    assert "does not exist" in messages["b"]
    assert "a folder that it lies in" in messages["d"]


def test_a_file_of_more_than_sixteen_mebibytes_is_refused(tmp_path: Path) -> None:
    project(tmp_path, {"a/main.py": ""})
    with (tmp_path / "functions" / "a" / "big.bin").open("wb") as file:
        file.truncate(16 * 2**20 + 1)
    found = discover(tmp_path / "functions", Config(root=tmp_path))
    assert "16.0 MiB" in only(found).message
