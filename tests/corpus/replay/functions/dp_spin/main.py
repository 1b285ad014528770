# Code that spins on asyncio.sleep(0) until a reply comes.
import asyncio


async def handler(input, ctx):
    out = []
    for ms in (0, 1, 4):
        task, turns = asyncio.create_task(ctx.sleep(ms)), 0
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        out.append(turns)
    return out
