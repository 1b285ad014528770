# Names and numbers of tasks, threads and processes.
import asyncio
import os
import threading


async def handler(input, ctx):
    names = [asyncio.current_task().get_name()]

    async def inner():
        names.append(asyncio.current_task().get_name())
        await ctx.sleep(1)
        return asyncio.create_task(asyncio.sleep(0)).get_name()

    names += await asyncio.gather(*(inner() for _ in range(3)))
    async with asyncio.TaskGroup() as group:
        names.append(group.create_task(inner()).get_name())
    thread = threading.current_thread()
    return [names, os.getpid(), os.getppid(), threading.get_ident(), threading.get_native_id(), thread.name, thread.ident, thread.native_id,
            threading.Thread(target=print).name, threading.main_thread() is thread, threading.active_count(), len(asyncio.all_tasks())]
