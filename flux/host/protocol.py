"""The host boundary: everything a function does to the world goes through one method.

`Live` does it; `Recording` wraps any Host and writes down what crossed. Replay is a third
implementation. A function's engine holds a Host and never knows which.
"""

from __future__ import annotations

from typing import Protocol

from flux.record.call import HostCall, Outcome


class Host(Protocol):
    """One execution's side of the boundary. Used from one event loop; one instance per execution."""

    def sent(self, guest: str, invocation: int) -> None:
        """The invocation goes to its guest in this step: the process's name, and the run's number there."""
        ...

    def begin(self, call: HostCall) -> None:
        """The guest asks for `call`, in the step in which its frame is read. `perform` follows, unless the
        call is given up in the same step. Never raises: what is wrong with it, `perform` says.
        """
        ...

    def give_up(self, n: int) -> None:
        """The call of that number, begun and not answered, is wanted no more: it is about to be cancelled."""
        ...

    async def perform(self, call: HostCall) -> Outcome:
        """Do `call` and say what came of it. A call that was not begun begins here.

        Never raises for what the world answers (a refused connection, a unique violation): that is
        an Outcome with an error. The caller delivers the outcome to the guest in the same step in
        which this returns, without awaiting anything: the order in which calls of `perform` return
        *is* the delivery order that Recording writes down.

        Raises:
            SpoolError: what was about to be sent could not be recorded; nothing was sent.
            FunctionError: the function has made more calls than one execution may.
            Unanswered: it is never answered, and nor is anything else in this execution.
            RuntimeFault: likewise, and the execution is to end so.
        """
        ...

    def notify(self, call: HostCall) -> None:
        """Take a one-way call (`log`, `span.start`, `span.end`): no answer, no waiting, never raises for
        bad arguments. Each is told once, in the order in which the guest made them.
        """
        ...

    async def close(self) -> None:
        """The execution is over: roll back open transactions, cancel what is in flight. Idempotent; never
        raises.
        """
        ...
