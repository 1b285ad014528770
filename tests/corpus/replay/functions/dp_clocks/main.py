# Every clock there is.
import datetime
import email.utils
import resource
import time
import os
from zoneinfo import ZoneInfo


async def handler(input, ctx):
    def all():
        return [time.time(), time.monotonic(), time.perf_counter_ns(), time.process_time(), time.thread_time_ns(), time.clock_gettime(time.CLOCK_REALTIME), time.clock_gettime_ns(time.CLOCK_BOOTTIME),
                time.ctime(), time.asctime(), time.strftime("%c %Z"), time.localtime()[:6], time.gmtime().tm_yday, time.tzname, time.timezone,
                datetime.datetime.now().isoformat(), datetime.datetime.now(ZoneInfo("Europe/Berlin")).isoformat(), datetime.datetime.fromtimestamp(0).isoformat(), datetime.date.today().isoformat(),
                datetime.datetime.now().astimezone().isoformat(), email.utils.formatdate(), os.times(), resource.getrusage(resource.RUSAGE_SELF)[:2]]
    before = all()
    sum(range(100_000))
    await ctx.sleep(2)
    return [before, all()]
