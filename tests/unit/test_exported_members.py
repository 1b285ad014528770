"""What a user may import. A name that goes, or comes, is a decision: it is made here too."""

from __future__ import annotations

import ast
from pathlib import Path

import flux
import flux.query

FLUX = {"__version__", "instrument_asyncpg"}
QUERY = {
    "Attempt", "Blame", "CallDifference", "CallFailure", "Change", "Cohorts", "ColumnBlame", "DebugStep",
    "Diff", "Difference", "Execution", "Failure", "FieldDifference", "HostCall", "Location", "LogLine",
    "Mutation", "Outputs", "Pace", "Reader", "Request", "Result", "RootCause", "RowDifference",
    "Separator", "Share", "SourceLine", "Span", "SpanDifference", "Step", "StepRows", "Steps",
    "Suggestion", "Trace", "Why", "Writer", "to_json",
}  # fmt: skip
FUNCTIONS = {
    "DatabaseError", "FetchError", "HostError", "InvocationOver", "InvokeError", "NotPermitted",
    "QueueError", "Response", "SecretError", "ValidationError",
}  # fmt: skip


def test_what_flux_exports() -> None:
    assert set(flux.__all__) == FLUX
    assert {name for name in FLUX if not hasattr(flux, name)} == set()


def test_what_flux_query_exports() -> None:
    assert set(flux.query.__all__) == QUERY
    assert {name for name in QUERY if not hasattr(flux.query, name)} == set()


def test_what_flux_functions_exports() -> None:
    """Read, not imported: it is at home in a guest."""
    package = Path(flux.__file__).parent / "runtime/guest/python/flux_functions/__init__.py"
    exported: set[str] = set()
    imported: set[str] = set()
    for node in ast.parse(package.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            imported |= {name.asname or name.name for name in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            imported.add(node.name)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            exported = set(ast.literal_eval(node.value))
    assert exported == FUNCTIONS
    assert exported - imported == set()
