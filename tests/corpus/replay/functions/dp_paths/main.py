# Paths in values: files, tracebacks, the folder one stands in.
import inspect
import os
import sys
import traceback
from pathlib import Path

import beside

TOP = __file__


async def handler(input, ctx):
    try:
        await ctx.sleep(1)
        beside.fail()
    except ValueError as error:
        text, where = traceback.format_exc(), error.__traceback__.tb_frame.f_code.co_filename
    out = [TOP, __name__, __spec__.origin, beside.__file__, os.getcwd(), os.path.abspath("x"), str(Path("y").absolute()), str(Path(__file__).resolve()),
           text, where, inspect.getfile(handler), inspect.getsource(beside.fail), handler.__code__.co_filename, sys.argv, dict(os.environ), os.path.realpath(__file__)]
    if input["n"] % 3 == 0:
        raise RuntimeError(f"at {__file__}: {text}")
    return out + [Path(__file__).with_name("data.txt").read_text(), sys.path[:2]]
