# Times and orders of its own files.
import glob
import os
from pathlib import Path

HERE = Path(__file__).parent


async def handler(input, ctx):
    await ctx.sleep(1)
    return [os.listdir(HERE), [e.name for e in os.scandir(HERE)], [p.name for p in HERE.iterdir()], [p.name for p in HERE.glob("*.txt")], glob.glob(str(HERE / "*")),
            [(top, folders, files) for top, folders, files in os.walk(HERE)], os.stat(__file__).st_mtime, os.path.getmtime(HERE / "b.txt"), (HERE / "b.txt").stat().st_size]
