"""What a hostile Python function does, by name. Each is a handler; test_hostile_functions.py serves them."""

import asyncio
import builtins
import contextlib
import datetime
import json
import os
import signal
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from flux_functions import Response

held = []


def works(input, ctx):
    return {"works": True}


# It does not come back.


def loops(input, ctx):
    while True:
        pass


async def loops_in_turns(input, ctx):
    while True:
        await asyncio.sleep(0)


async def never_settles(input, ctx):
    await asyncio.get_running_loop().create_future()


async def swallows_its_end(input, ctx):
    while True:
        try:
            await asyncio.sleep(0)
        except BaseException:
            held.append(1)


def stops_itself(input, ctx):
    signal.raise_signal(signal.SIGSTOP)


# It allocates.


def fills_a_list(input, ctx):
    mine = []
    while True:
        mine.append("x" * 1000 + str(len(mine)))


def fills_a_global(input, ctx):
    while True:
        held.append("x" * 1000 + str(len(held)))


def one_huge_object(input, ctx):
    return len(bytes(10**12))


def swallows_memory_errors(input, ctx):
    while True:
        with contextlib.suppress(MemoryError):
            held.append(bytearray(100_000))


async def fills_in_a_task(input, ctx):
    async def fill():
        while True:
            held.append(bytearray(10_000))

    asyncio.get_running_loop().call_soon(lambda: [held.append(bytearray(10_000)) for _ in iter(int, 1)])
    await asyncio.sleep(10)


# It returns what JSON can't hold.


def returns_set(input, ctx):
    return {"tags": {1, 2}}


def returns_datetime(input, ctx):
    return datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def returns_bytes(input, ctx):
    return b"\xff"


def returns_nan(input, ctx):
    return {"a": [1.0, float("nan")]}


def returns_cyclic(input, ctx):
    value = {}
    value["self"] = value
    return value


def returns_generator(input, ctx):
    return (n for n in range(3))


def returns_huge_int(input, ctx):
    return 10**5000


def returns_object(input, ctx):
    return object()


def returns_surrogate(input, ctx):
    return "\ud800"


def returns_deep(input, ctx):
    value = 1
    for _ in range(100_000):
        value = [value]
    return value


async def _later():
    return 1


def returns_coroutine_inside(input, ctx):
    made = _later()
    made.close()
    return {"later": made}


def returns_much(input, ctx):
    return "x" * (3 * 2**20)


# It raises.


class Base(BaseException):
    pass


class Unreadable(Exception):
    def __str__(self):
        raise ValueError("no text")


class Ending(Exception):
    def __str__(self):
        raise SystemExit(3)


def raises_base(input, ctx):
    raise Base("not an Exception")


def raises_system_exit(input, ctx):
    sys.exit(4)


async def raises_system_exit_in_a_task(input, ctx):
    async def leave():
        sys.exit(5)

    await asyncio.create_task(leave())


def raises_keyboard_interrupt(input, ctx):
    raise KeyboardInterrupt


def interrupts_itself(input, ctx):
    signal.raise_signal(signal.SIGINT)


def raises_generator_exit(input, ctx):
    raise GeneratorExit("out")


async def raises_cancelled(input, ctx):
    raise asyncio.CancelledError("gone")


async def raises_stop_iteration(input, ctx):
    raise StopIteration(1)


def raises_unreadable(input, ctx):
    raise Unreadable


def raises_ending(input, ctx):
    raise Ending


def raises_a_chain(input, ctx):
    error = ValueError("last")
    for n in range(50_000):
        following = ValueError(n)
        following.__cause__ = error
        error = following
    raise error


def raises_a_nested_group(input, ctx):
    error = ValueError("inner")
    for n in range(2_000):
        error = ExceptionGroup(str(n), [error])
    raise error


def recurses(input, ctx):
    return recurses(input, ctx)


# It ends the process.


def exits(input, ctx):
    os._exit(3)


def aborts(input, ctx):
    os.abort()


def kills_itself(input, ctx):
    signal.raise_signal(signal.SIGKILL)


def kills(input, ctx):
    os.kill(os.getpid(), signal.SIGKILL)


# It starts something.


def forks(input, ctx):
    os.fork()


def starts_a_thread(input, ctx):
    threading.Thread(target=print).start()


def starts_a_pool(input, ctx):
    with ThreadPoolExecutor() as pool:
        return pool.submit(int).result()


# It writes.


def writes_to_stderr(input, ctx):
    chunk = (b"s" * 99 + b"\n") * 10_000
    for _ in range(input["megabytes"]):
        os.write(2, chunk)
        os.write(1, chunk)
    return "done"


def prints_lines(input, ctx):
    for n in range(input["count"]):
        print("line", n)
    return "done"


def logs_a_huge_line(input, ctx):
    ctx.log("x" * (8 * 2**20), {"field": "y" * (3 * 2**20)})
    return "done"


# It gets at its socket.


def _socket():
    return max(int(name) for name in range(64, 128) if _is_open(name))


def _is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _send(header, body=b"", times=1):
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    frame = struct.pack(">II", 4 + len(head) + len(body), len(head)) + head + body
    data = memoryview(frame * times)
    while data:
        data = data[os.write(_socket(), data) :]


async def closes_its_socket(input, ctx):
    os.close(_socket())
    await asyncio.get_running_loop().create_future()


async def forges(input, ctx):
    _send(input["header"], input.get("body", "").encode())
    await asyncio.sleep(60)


async def sends_garbage(input, ctx):
    os.write(_socket(), b"\x00\x00\x00\x10\x00\x00\x00\x08not json")
    await asyncio.sleep(60)


async def announces_a_gigabyte(input, ctx):
    os.write(_socket(), struct.pack(">II", 2**30, 2**30 - 4))
    await asyncio.sleep(60)


async def floods_with_pongs(input, ctx):
    for _ in range(input["thousands"]):
        _send({"t": "pong", "k": 1}, times=1000)
    return "done"


# It makes calls.


async def leaves_a_call(input, ctx):
    made = asyncio.ensure_future(ctx.db.sql("select pg_sleep(0.2)"))
    await asyncio.sleep(0)
    held.append(made)
    return "left"


async def leaves_a_task(input, ctx):
    async def on():
        while True:
            await asyncio.sleep(0.001)

    held.append(asyncio.ensure_future(on()))
    await asyncio.sleep(0)
    return "left"


async def calls_at_once(input, ctx):
    sleeps = [ctx.sleep(1) for _ in range(3000)]
    rows = await asyncio.gather(*sleeps, *(ctx.db.fetchval("select $1::int", n) for n in range(300)))
    return sum(rows[3000:])


async def calls_too_many_at_once(input, ctx):
    await asyncio.gather(*(ctx.sleep(60_000) for _ in range(10_001)))


async def calls_without_end(input, ctx):
    while True:
        await asyncio.sleep(0.000_001)


# It answers what HTTP can't carry.


def status_99(input, ctx):
    return Response("x", status=99)


def status_changed(input, ctx):
    response = Response("x")
    response.status = 1000
    return response


def header_injection(input, ctx):
    return Response("x", headers={"a": "b\r\nset-cookie: stolen=1"})


def header_changed(input, ctx):
    response = Response("x")
    response.headers.append(("a", "b\r\nset-cookie: stolen=1"))
    return response


def body_of_another_kind(input, ctx):
    class Odd(Response):
        def encode(self, dumps=None):
            return "text"

    return Odd("x")


# It changes what everything stands on.


def patches(input, ctx):
    def boom(*arguments, **named):
        raise RuntimeError("patched")

    json.dumps = json.loads = asyncio.sleep = asyncio.create_task = os.getpid = boom
    for name in ("print", "sorted", "open", "sum", "input", "repr"):
        setattr(builtins, name, boom)
    datetime.datetime = boom
    return "patched"


kinds = {name: made for name, made in list(globals().items()) if callable(made) and name[0] != "_"}
