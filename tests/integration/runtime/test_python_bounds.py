"""What a Python handler can't do, or not for ever: exits, loops, deadlines, threads, what the guard refuses,
and calls left open.
"""

from __future__ import annotations

import asyncio

import pytest

from flux.errors import DeadlineExceeded, FunctionError, GuestDied
from flux.record.call import HostCall
from tests.integration.runtime.python_guest import (
    Python,
    ScriptedHost,
    invocation,
)


async def test_ending_the_process_by_exit_is_an_error_of_the_invocation(python: Python) -> None:
    error = await python.fail("import sys\nasync def handler(input, ctx):\n    sys.exit(1)")
    assert (error.error_type, error.line) == ("SystemExit", 3)
    code = """
        import asyncio, sys
        async def bad():
            sys.exit(2)
        async def handler(input, ctx):
            task = asyncio.create_task(bad())
            await asyncio.sleep(0.01)
            return "alive"
    """
    assert await python.run(code) == "alive"
    with pytest.raises(GuestDied):
        await python.run("import os\ndef handler(input, ctx): os._exit(3)")


async def test_endless_recursion_is_an_error_and_endless_loops_are_killed(python: Python) -> None:
    error = await python.fail("def f(): return f()\ndef handler(input, ctx): return f()")
    assert error.error_type == "RecursionError"
    assert error.stack is not None
    assert len(error.stack.splitlines()) < 120
    with pytest.raises(DeadlineExceeded):
        await python.run("def handler(input, ctx):\n    while True: pass", timeout=0.2)


async def test_an_invocation_past_its_deadline_winds_up_and_the_others_finish(python: Python) -> None:
    release = asyncio.Event()

    async def wait(call: HostCall) -> object:
        await release.wait()
        return 7

    guest = await python.load(
        """
        async def handler(input, ctx):
            try:
                return await ctx.invoke("slow")
            finally:
                try:
                    await ctx.db.execute("cleanup")
                except Exception as error:
                    print(type(error).__name__)
        """
    )
    late, patient = ScriptedHost({"invoke": wait}), ScriptedHost({"invoke": wait, "db.sql": {"rows": []}})
    other = asyncio.create_task(guest.invoke(invocation(), patient))
    with pytest.raises(DeadlineExceeded):
        await guest.invoke(invocation(timeout=0.2), late)
    await asyncio.wait_for(python.said.wait(), 5)
    release.set()
    assert (await other).body == b"7"
    assert python.lines == ["InvocationOver"]
    assert [call.op for call in late.calls] == ["invoke"]
    assert [call.op for call in patient.calls] == ["invoke", "db.sql"]


async def test_a_timer_that_is_cancelled_ends_the_hosts_sleep(python: Python) -> None:
    async def forever(call: HostCall) -> object:
        await asyncio.Event().wait()
        return {}

    host = ScriptedHost({"sleep": forever, "invoke": 3})
    code = """
        import asyncio
        async def handler(input, ctx):
            loop = asyncio.get_running_loop()
            loop.call_later(60, print, "left behind")
            asyncio.create_task(asyncio.sleep(60))
            return await asyncio.wait_for(ctx.invoke("quick"), 30)
    """
    assert await asyncio.wait_for(python.run(code, host=host), 3) == 3
    slept = [call.n for call in host.calls if call.op == "sleep"]
    assert len(slept) == 3
    assert sorted(host.cancelled) == slept


async def test_a_timeout_fires_when_the_hosts_sleep_ends(python: Python) -> None:
    async def forever(call: HostCall) -> object:
        await asyncio.Event().wait()
        return {}

    code = """
        import asyncio
        async def handler(input, ctx):
            try:
                async with asyncio.timeout(5):
                    await ctx.invoke("never")
            except TimeoutError:
                return "timed out"
    """
    host = ScriptedHost({"invoke": forever})
    assert await python.run(code, host=host, timeout=0.3) == "timed out"
    assert host.cancelled == [2]
    assert [call.op for call in host.calls] == ["sleep", "invoke"]


async def test_calls_left_open_are_seen_through_by_the_host(python: Python) -> None:
    release = asyncio.Event()

    async def wait(call: HostCall) -> object:
        await release.wait()
        return {"id": "1", "duplicate": False}

    guest = await python.load(
        """
        import asyncio
        async def handler(input, ctx):
            asyncio.create_task(ctx.queue.push("later"))
            await asyncio.sleep(0)
            return 1
        """
    )
    host = ScriptedHost({"queue.push": wait})
    task = asyncio.create_task(guest.invoke(invocation(), host))
    done, _ = await asyncio.wait({task}, timeout=0.2)
    assert not done
    release.set()
    assert (await task).body == b"1"


async def test_to_thread_runs_inline_and_threads_are_refused(python: Python) -> None:
    code = """
        import asyncio, threading
        async def handler(input, ctx):
            value = await asyncio.to_thread(lambda: 5)
            try:
                threading.Thread(target=print).start()
            except RuntimeError as error:
                return [value, str(error)]
    """
    value, said = await python.run(code)
    assert value == 5
    assert "threads" in said


@pytest.mark.parametrize(
    ("statement", "kind", "said"),
    [
        ("open('/etc/passwd')", "PermissionError", "functions read their own code only"),
        ("open('/proc/self/environ')", "PermissionError", "own code only"),
        ("open(__file__ + '/../../../../x')", "PermissionError", "own code only"),
        ("open(__file__, 'a')", "PermissionError", "can't be written"),
        ("open(64, 'rb')", "PermissionError", "own code only"),
        ("__import__('os').listdir('/')", "PermissionError", "can't be listed"),
        ("__import__('os').remove(__file__)", "PermissionError", "can't change files"),
        ("__import__('os').mkdir('/tmp/x')", "PermissionError", "can't change files"),
        ("__import__('socket').socket()", "NotPermitted", "httpx.AsyncClient"),
        ("__import__('socket').getaddrinfo('x', 1)", "NotPermitted", "httpx.AsyncClient"),
        ("__import__('urllib.request').request.urlopen('http://x')", "NotPermitted", "httpx.AsyncClient"),
        ("__import__('subprocess').run(['true'])", "NotPermitted", "start or signal processes"),
        ("__import__('os').system('true')", "NotPermitted", "start or signal processes"),
        ("__import__('os').fork()", "NotPermitted", "start or signal processes"),
        ("__import__('os').kill(1, 0)", "NotPermitted", "start or signal processes"),
        ("__import__('ctypes')", "ImportError", "not available"),
        ("__import__('time').sleep(1)", "RuntimeError", "asyncio.sleep"),
        ("__import__('httpx').get('http://x')", "NotPermitted", "httpx.AsyncClient"),
    ],
)
async def test_the_guard_refuses(python: Python, statement: str, kind: str, said: str) -> None:
    error = await python.fail(f"def handler(input, ctx):\n    {statement}")
    assert error.error_type == kind, error.stack
    assert said in error.message


async def test_a_host_call_in_top_level_code_or_after_the_end_is_refused(python: Python) -> None:
    code = """
        kept = []
        async def handler(input, ctx):
            if kept:
                return await kept[0].db.fetchval("late")
            kept.append(ctx)
    """
    guest = await python.load(code)
    await guest.invoke(invocation(), ScriptedHost())
    with pytest.raises(FunctionError, match="after the handler had returned"):
        await guest.invoke(invocation(), ScriptedHost())
