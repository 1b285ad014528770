# The logging module, with its processes, threads and times.
import io
import logging


async def handler(input, ctx):
    stream = io.StringIO()
    log = logging.Logger("mine")
    put = logging.StreamHandler(stream)
    put.setFormatter(logging.Formatter("%(asctime)s %(process)d %(processName)s %(thread)d %(threadName)s %(pathname)s:%(lineno)d %(relativeCreated)d %(taskName)s %(message)s"if hasattr(logging.LogRecord("", 0, "", 0, "", (), None), "taskName") else "%(asctime)s %(process)d %(thread)d %(threadName)s %(pathname)s:%(lineno)d %(relativeCreated)d %(message)s"))
    log.addHandler(put)
    log.warning("one")
    await ctx.sleep(3)
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("two")
    logging.getLogger("x").error("three %s", input["n"])
    return stream.getvalue()
