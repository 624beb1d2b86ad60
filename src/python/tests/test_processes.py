"""Child processes of calls."""

import asyncio
import subprocess
from multiprocessing.process import BaseProcess

import pytest
import pytest_asyncio
from fakes import eventually

import processes as programs
import witness
from tower_dspy.patches import processes, threads

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def counted(monkeypatch, harness):
    """A harness where processes are counted; what is wrapped for that is put back."""
    for owner, name in ((subprocess.Popen, "__init__"), (BaseProcess, "start")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    processes.install(asyncio.get_running_loop(), 0.2)
    return harness


async def pid_of(key: str, call=None) -> int:
    """The id of the process that a program has noted."""
    async with asyncio.timeout(30):
        while not (seen := await witness.seen(key)):
            await asyncio.sleep(0.001)
    print(call.events) if call else None
    return int(seen[0])


@pytest.mark.parametrize("program", ["Popen", "Ignores"])
async def test_a_process_is_told_and_killed_when_its_call_is_cancelled(counted, program):
    key = f"child-{program}"
    call = counted.start(counted.program(f"processes:{program}"), key=key)
    pid = await pid_of(key, call)
    counted.cancel_last()
    await call.ended()
    assert call.outcome["kind"] == "cancelled"
    assert not await programs.runs(pid)
    assert (await witness.seen(key))[1:] == ["cleaned"]
