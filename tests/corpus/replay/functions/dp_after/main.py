# Work that goes on after the answer.
import asyncio
import random


async def handler(input, ctx):
    async def later(i):
        await ctx.sleep(random.random() * 5)
        print("later", i, random.random())
        await ctx.db.execute("insert into events (name, v) values ('after', $1)", i)
        if i == 2:
            raise ValueError("later failed")

    for i in range(3):
        ctx.wait_until(asyncio.create_task(later(i)))
    return random.random()
