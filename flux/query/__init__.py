"""Reading the record. A Reader answers every question; its answers are typed, frozen structs whose fields are
the keys of the JSON that the CLI prints and the HTTP API returns, written by `to_json`.
"""

from flux.query.encoding import to_json
from flux.query.reader import Reader
from flux.query.statement import Result
from flux.query.steps import Steps
from flux.shapes.debug import DebugStep, StepRows
from flux.shapes.diff import (
    CallDifference,
    Cohorts,
    Diff,
    FieldDifference,
    Outputs,
    Pace,
    RowDifference,
    Separator,
    SpanDifference,
)
from flux.shapes.record import (
    Attempt,
    Blame,
    CallFailure,
    ColumnBlame,
    Execution,
    Failure,
    HostCall,
    LogLine,
    Mutation,
    Request,
    Span,
    Trace,
)
from flux.shapes.why import (
    Change,
    Difference,
    Location,
    RootCause,
    Share,
    SourceLine,
    Step,
    Suggestion,
    Why,
    Writer,
)

__all__ = [
    "Attempt",
    "Blame",
    "CallDifference",
    "CallFailure",
    "Change",
    "Cohorts",
    "ColumnBlame",
    "DebugStep",
    "Diff",
    "Difference",
    "Execution",
    "Failure",
    "FieldDifference",
    "HostCall",
    "Location",
    "LogLine",
    "Mutation",
    "Outputs",
    "Pace",
    "Reader",
    "Request",
    "Result",
    "RootCause",
    "RowDifference",
    "Separator",
    "Share",
    "SourceLine",
    "Span",
    "SpanDifference",
    "Step",
    "StepRows",
    "Steps",
    "Suggestion",
    "Trace",
    "Why",
    "Writer",
    "to_json",
]
