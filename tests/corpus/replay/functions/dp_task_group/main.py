# The order in which a TaskGroup cancels.
import asyncio
import random


async def handler(input, ctx):
    order = []

    async def work(name, ms):
        try:
            await asyncio.sleep(ms / 1000)
            order.append(name)
            if name == "bad":
                raise ValueError(name)
        except asyncio.CancelledError:
            order.append("cancelled " + name)
            raise

    try:
        async with asyncio.TaskGroup() as group:
            for name in ["a", "b", "bad", "c", "d", "e", "f", "g"]:
                group.create_task(work(name, 3 if name == "bad" else random.random() * 9))
    except* ValueError as errors:
        order.append(str(errors.exceptions))
    return order
