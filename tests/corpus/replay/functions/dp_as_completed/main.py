# as_completed over coroutines, whose set is ordered by addresses.
import asyncio
import httpx


async def handler(input, ctx):
    out = []
    async with httpx.AsyncClient() as client:
        async def one(i):
            return i, (await client.get("http://127.0.0.1:4390/d", params={"k": i})).json()["v"]
        for done in asyncio.as_completed([one(i) for i in range(7)]):
            out.append(await done)
        try:
            for done in asyncio.as_completed([one(9), asyncio.sleep(0.3)], timeout=0.05):
                out.append(await done)
        except TimeoutError:
            out.append("timeout")
    return out
