"""Which spans are sent: `OTEL_TRACES_SAMPLER`, decided at the export, for the record holds all of them.

The decision needs nothing but the trace id and the caller's sampled flag, so that all spans of a trace get
the same one, in whatever order and in whichever process they are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

SAMPLER, ARGUMENT = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"

_SAMPLED = 0x01
_LOW = 2**64 - 1

_NAMES = {"always_on", "always_off", "traceidratio"}
_PARENT = "parentbased_"


@dataclass(frozen=True)
class Sampler:
    """Decides by trace id, unless it follows a caller.

    Attributes:
        ratio: of all traces, 0 to 1: those whose id's lower half is below it, as in every OpenTelemetry SDK.
        follows: whether a remote caller's sampled flag decides where there is one.
    """

    ratio: float = 1.0
    follows: bool = True

    def keeps(self, trace_id: str, origin: int | None) -> bool:
        """Whether a span is sent.

        Args:
            trace_id: 32 hex digits.
            origin: the trace flags of the nearest remote ancestor, None where the trace began here.
        """
        if self.follows and origin is not None:
            return bool(origin & _SAMPLED)
        if self.ratio >= 1.0:
            return True
        return (int(trace_id, 16) & _LOW) < round(self.ratio * 2**64)


def sampler(name: str | None, argument: str | None) -> tuple[Sampler, list[tuple[str, str, str]]]:
    """The sampler of these two values of the environment; and those it can't use, with the reason."""
    if name is None:
        return Sampler(), []
    base = name.removeprefix(_PARENT)
    if base not in _NAMES:
        return Sampler(), [(SAMPLER, name, "known are always_on, always_off, traceidratio and parentbased_…")]
    follows = name.startswith(_PARENT)
    if base != "traceidratio":
        return Sampler(1.0 if base == "always_on" else 0.0, follows), []
    if argument is None:
        return Sampler(1.0, follows), []
    try:
        ratio = float(argument)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        return Sampler(1.0, follows), [(ARGUMENT, argument, "it must be a number from 0 to 1")]
    return Sampler(ratio, follows), []
