"""The clock shims: `time`, and `datetime`'s classes, answer with the invocation's time. Installed before user
code loads.

`datetime.datetime` and `datetime.date` become façades: calling one gives a genuine C object and isinstance
answers for it, so that type checks in C extensions, pickling and arithmetic are as ever; only `now`, `utcnow`
and `today` differ.
"""

import copyreg
import time
from types import ModuleType
from typing import Any

from flux_guest.hooks import when_imported
from flux_guest.sources import sources

_localtime, _gmtime = time.localtime, time.gmtime
_strftime, _asctime, _ctime = time.strftime, time.asctime, time.ctime


def _seconds() -> float:
    return sources().now / 1_000_000


def _nanoseconds() -> int:
    return sources().now * 1000


def _elapsed() -> float:
    found = sources()
    return (found.now - found.began) / 1_000_000


def _elapsed_ns() -> int:
    found = sources()
    return (found.now - found.began) * 1000


def _sleep(seconds: float) -> None:
    raise RuntimeError(
        "time.sleep() would block every invocation of this process: use `await asyncio.sleep(seconds)`."
    )


def install() -> None:
    """Replace every clock of `time`, and those of `datetime` when it is imported."""
    time.time = time.monotonic = time.perf_counter = _seconds
    time.time_ns = time.monotonic_ns = time.perf_counter_ns = _nanoseconds
    time.process_time = time.thread_time = _elapsed
    time.process_time_ns = time.thread_time_ns = _elapsed_ns
    time.clock_gettime = lambda clock: _seconds()
    time.clock_gettime_ns = lambda clock: _nanoseconds()
    time.sleep = _sleep  # type: ignore[assignment]
    time.localtime = lambda seconds=None: _localtime(_seconds() if seconds is None else seconds)
    time.gmtime = lambda seconds=None: _gmtime(_seconds() if seconds is None else seconds)
    time.ctime = lambda seconds=None: _ctime(_seconds() if seconds is None else seconds)
    time.asctime = lambda moment=None: _asctime(time.localtime() if moment is None else moment)
    time.strftime = lambda form, moment=None: _strftime(form, time.localtime() if moment is None else moment)
    when_imported("datetime", _install_datetime)


def _install_datetime(module: ModuleType) -> None:
    real_date: Any = module.date
    real: Any = module.datetime
    epoch = real(1970, 1, 1)
    aware = real(1970, 1, 1, tzinfo=module.timezone.utc)
    delta = module.timedelta

    class Facade(type):
        """Answers for the real class; makes real objects unless a user's subclass is being called."""

        def __call__(cls, *arguments: Any, **named: Any) -> Any:
            genuine = cls.__dict__.get("_genuine")
            return (
                type.__call__(cls, *arguments, **named) if genuine is None else genuine(*arguments, **named)
            )

        def __instancecheck__(cls, value: Any) -> bool:
            genuine = cls.__dict__.get("_genuine")
            return type.__instancecheck__(cls, value) if genuine is None else isinstance(value, genuine)

        def __subclasscheck__(cls, other: type) -> bool:
            genuine = cls.__dict__.get("_genuine")
            return type.__subclasscheck__(cls, other) if genuine is None else issubclass(other, genuine)

        def __eq__(cls, other: Any) -> bool:
            return cls is other or (other is not None and cls.__dict__.get("_genuine") is other)

        def __hash__(cls) -> int:
            genuine = cls.__dict__.get("_genuine")
            return type.__hash__(cls) if genuine is None else hash(genuine)

    class datetime(real, metaclass=Facade):  # noqa: N801 - its name is what people see
        """The real datetime, on the invocation's clock."""

        _genuine = real

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            now = sources().now
            if tz is None:
                return _as(cls, epoch + delta(microseconds=now))
            return tz.fromutc(_as(cls, epoch + delta(microseconds=now)).replace(tzinfo=tz))

        @classmethod
        def utcnow(cls) -> Any:
            return _as(cls, epoch + delta(microseconds=sources().now))

        @classmethod
        def today(cls) -> Any:
            return cls.now()

    class date(real_date, metaclass=Facade):  # noqa: N801 - its name is what people see
        """The real date, on the invocation's clock."""

        _genuine = real_date

        @classmethod
        def today(cls) -> Any:
            now = aware + delta(microseconds=sources().now)
            return cls(now.year, now.month, now.day)

    def _as(cls: Any, moment: Any) -> Any:
        if cls is datetime:
            return moment
        day = (moment.year, moment.month, moment.day)
        return cls(*day, moment.hour, moment.minute, moment.second, moment.microsecond)

    for facade, genuine in ((datetime, real), (date, real_date)):
        facade.__module__ = "datetime"
        facade.__qualname__ = genuine.__name__
    module.datetime = datetime  # type: ignore[attr-defined]
    module.date = date  # type: ignore[attr-defined]
    copyreg.pickle(real, lambda value: (datetime, value.__reduce_ex__(2)[1]))
    copyreg.pickle(real_date, lambda value: (date, value.__reduce_ex__(2)[1]))
