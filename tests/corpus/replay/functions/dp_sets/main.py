# Sets of tasks, futures, strings, None and types.
import asyncio


async def handler(input, ctx):
    tasks = {asyncio.create_task(asyncio.sleep(0.001 * i, i), name=f"n{i}") for i in range(12)}
    futures = {asyncio.get_running_loop().create_future() for _ in range(9)}
    for place, future in enumerate(futures):
        future.set_result(place)
    order = [t.get_name() for t in tasks]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    late = [await t for t in pending]
    return {
        "order": order, "done": [t.result() for t in done], "late": late, "futures": [f.result() for f in futures],
        "strings": list({"x", "y", "z", "ä", b"q", 1.5, (1, "a")} ^ {"y"}) and [str(v) for v in {"x", "y", b"q", 1.5, (1, "a")}],
        "hashes": [hash("x"), hash((1, "a")), hash(1.5), hash(b"q"), hash(frozenset("abc"))],
        "all": sorted(t.get_name() for t in asyncio.all_tasks()),
    }
