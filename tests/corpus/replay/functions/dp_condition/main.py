# Conditions, barriers and queues by priority.
import asyncio
import random


async def handler(input, ctx):
    order, condition, barrier, queue = [], asyncio.Condition(), asyncio.Barrier(3), asyncio.PriorityQueue()

    async def one(i):
        await ctx.sleep(random.random() * 4)
        async with condition:
            order.append(f"wait{i}")
            await condition.wait()
            order.append(f"woken{i}")
        place = await barrier.wait()
        await queue.put((random.random(), i, place))

    tasks = [asyncio.create_task(one(i)) for i in range(3)]
    for count in (1, 2):
        await ctx.sleep(6)
        async with condition:
            condition.notify(count)
    await ctx.sleep(2)
    async with condition:
        condition.notify_all()
    await asyncio.gather(*tasks)
    return [order, [queue.get_nowait() for _ in range(3)]]
