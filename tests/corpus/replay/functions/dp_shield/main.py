# Shields, deadlines and cancellations that meet.
import asyncio
import httpx


async def handler(input, ctx):
    out = []
    async with httpx.AsyncClient() as client:
        async def one(k):
            try:
                return (await client.get("http://127.0.0.1:4390/d", params={"k": k})).json()["v"]
            finally:
                out.append("over " + k)
        for ms in (3, 9, 14):
            inner = asyncio.create_task(one(f"s{ms}"))
            try:
                out.append(await asyncio.wait_for(asyncio.shield(inner), ms / 1000))
            except TimeoutError:
                out.append("late")
                out.append(await inner)
        try:
            async with asyncio.timeout(0.006) as limit:
                await asyncio.gather(one("x"), one("y"))
        except TimeoutError:
            out.append(limit.expired())
        tasks = [asyncio.create_task(one(f"c{i}")) for i in range(3)]
        await asyncio.sleep(0.004)
        for task in tasks:
            task.cancel("enough")
        out += [type(r).__name__ for r in await asyncio.gather(*tasks, return_exceptions=True)]
    return out
