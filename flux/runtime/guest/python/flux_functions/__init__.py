"""What functions import: `from flux_functions import Response, ValidationError, DatabaseError`."""

from flux_functions.errors import (
    DatabaseError,
    FetchError,
    HostError,
    InvocationOver,
    InvokeError,
    NotPermitted,
    QueueError,
    SecretError,
    ValidationError,
)
from flux_functions.response import Response

__all__ = [
    "DatabaseError",
    "FetchError",
    "HostError",
    "InvocationOver",
    "InvokeError",
    "NotPermitted",
    "QueueError",
    "Response",
    "SecretError",
    "ValidationError",
]
