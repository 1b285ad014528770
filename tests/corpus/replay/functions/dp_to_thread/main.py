# Work for threads, which runs at once.
import asyncio
import time


def busy(name, order):
    order.append(name)
    return name, time.time()


async def handler(input, ctx):
    order = []
    loop = asyncio.get_running_loop()
    results = await asyncio.gather(
        asyncio.to_thread(busy, "a", order), ctx.sleep(1), asyncio.to_thread(busy, "b", order),
        loop.run_in_executor(None, busy, "c", order), asyncio.sleep(0))
    return [order, results, loop.time()]
