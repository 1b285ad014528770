"""`ctx.queue` and `tx.queue`: jobs. Part of ctx."""

from typing import Any

from flux_guest.invocation import Invocation
from flux_guest.values import dumps, parse


class Queue:
    """Pushes jobs; within a transaction they exist only if it commits."""

    __slots__ = ("_invocation", "_tx")

    def __init__(self, invocation: Invocation, tx: int | None = None) -> None:
        self._invocation = invocation
        self._tx = tx

    async def push(
        self,
        name: str,
        payload: Any = None,
        *,
        delay: float | None = None,
        idempotency_key: str | None = None,
        max_attempts: int | None = None,
    ) -> dict[str, Any]:
        """Have function `name` run with `payload`.

        Args:
            delay: milliseconds to wait first.
            idempotency_key: a second push with the same key makes no second job.
            max_attempts: how often it is tried.

        Returns:
            `id` of the job, and `duplicate`: whether it existed already.
        """
        options = {"delay": delay, "idempotencyKey": idempotency_key, "maxAttempts": max_attempts}
        given = {key: value for key, value in options.items() if value is not None}
        arguments = dumps({"name": name, "payload": payload, "options": given})
        return parse(await self._invocation.call("queue.push", arguments, self._tx))
