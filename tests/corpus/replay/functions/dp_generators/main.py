# Async generators that are left open, and context variables.
import asyncio
import contextvars

name = contextvars.ContextVar("name", default="none")


async def handler(input, ctx):
    seen = []

    async def ticks(n):
        try:
            for i in range(n):
                await ctx.sleep(1)
                yield f"{name.get()}{i}"
        finally:
            seen.append("closed " + name.get())

    async def drain(label):
        name.set(label)
        async for x in ticks(4):
            seen.append(x)
            if x.endswith("2"):
                break
        await ctx.sleep(0)

    await asyncio.gather(drain("a"), drain("b"))
    await ctx.sleep(1)
    return [seen, name.get(), [x async for x in ticks(2)]]
