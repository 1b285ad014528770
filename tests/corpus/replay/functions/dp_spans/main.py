# Spans of work done at once, and prints inside.
import asyncio
import random


async def handler(input, ctx):
    async def one(name):
        with ctx.trace.span(name, n=input["n"]):
            await ctx.sleep(random.random() * 3)
            print("in", name)
            with ctx.trace.span(name + ".in"):
                await ctx.sleep(1)

    await asyncio.gather(*(one(f"s{i}") for i in range(4)))
    return random.random()
