"""Requests that were rejected alike within a second, recorded as one execution with a count.

Made by the executor for the gateway. Each of them has an id of its own, from which the record is
found. The first digits are random and shared; the last twelve are its number among them (the
record's own are zeros).
"""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry.trace import Span

from flux import semconv
from flux.record.events import Failure
from flux.record.identity import member_id
from flux.recorder.execution import Execution
from flux.runtime.request import Result


class Together:
    """An open record of rejections.

    Args:
        execution, root: the record, and its span.
        status, failure: how each of the requests is answered.
        ended: told when it is over.

    Attributes:
        count: requests so far.
    """

    def __init__(
        self,
        execution: Execution,
        root: Span,
        status: int,
        failure: Failure,
        ended: Callable[[Together], None],
    ) -> None:
        self._execution = execution
        self._root = root
        self._status = status
        self._failure = failure
        self._ended = ended
        self.count = 0

    def add(self, more: int = 1) -> Result:
        """Count one request more, or several: in the spool when this returns. The last one's result.

        Raises:
            SpoolError: it was not written, and is not counted.
        """
        count = self.count + more
        self._execution.tally(count)
        self.count = count
        return self.result()

    def result(self, before: int = 0) -> Result:
        """What the request that was counted last is told, or the one so many before it; its body is the
        caller's to fill in.
        """
        return Result(
            request_id=member_id(self._execution.request_id, self.count - before),
            trace_id=self._execution.trace_id,
            span_id=self._execution.arrival.span_id,
            status=self._status,
            outcome="rejected",
            kind="json",
            headers=[],
            body=b"",
            error=self._failure,
        )

    def end(self) -> None:
        """No more of them come: append the end.

        Raises:
            SpoolError: it was not written. A later call tries again.
        """
        self._root.set_attribute(semconv.HTTP_RESPONSE_STATUS_CODE, self._status)
        self._root.set_attribute(semconv.ERROR_TYPE, self._failure.type)
        self._root.set_attribute(semconv.FLUX_COUNT, self.count)
        self._root.end()
        self._execution.end(status=self._status, outcome="rejected", error=self._failure)
        self._ended(self)
