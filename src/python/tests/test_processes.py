"""Child processes of calls."""

import asyncio
import contextlib
import inspect
import os
import signal
import subprocess
import threading
from multiprocessing.process import BaseProcess

import pytest
import pytest_asyncio
from blocked import until
from conftest import own_messages
from fakes import eventually

import processes as programs
import witness
from tower_dspy import call_process, process_tree
from tower_dspy.call_process import CallProcess
from tower_dspy.patches import processes
from tower_dspy.watchdog import Watchdog

pytestmark = pytest.mark.asyncio

GRACE = 0.2

# Each way to start a process, and how many processes that makes.
ON_A_THREAD = {"Popen": 1, "Ignores": 1, "Parent": 2, "Session": 2, "Sandboxed": 1}
ON_A_THREAD |= {"Background": 1}
ON_A_THREAD |= {"Forked": 1, "Spawned": 1, "ForkServer": 1}


@pytest_asyncio.fixture
async def counted(monkeypatch, harness, request):
    """A harness where processes are counted; what is wrapped for that is put back."""
    for owner, name in ((subprocess.Popen, "__init__"), (BaseProcess, "start")):
        # Not for a second loop as well, which another test has made.
        monkeypatch.setattr(owner, name, inspect.unwrap(getattr(owner, name)))
    processes.install(asyncio.get_running_loop(), getattr(request, "param", GRACE))
    # A second interrupt would cut what a program notes at its end.
    harness.pool.grace = 30.0
    return harness


async def pids_of(key: str, count: int = 1) -> list[int]:
    """The ids of the processes that a program has noted."""
    async with asyncio.timeout(30):
        while len(seen := await witness.seen(key)) < count:
            await asyncio.sleep(0.001)
    return [int(pid) for pid in seen[:count]]


async def ended(pid: int) -> None:
    async with asyncio.timeout(30):
        while await programs.runs(pid):
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("way", ON_A_THREAD)
async def test_a_process_ends_with_its_cancelled_call_and_with_it_the_wait_for_it(counted, way):
    key = f"process-{way}"
    call = counted.start(counted.program(f"processes:{way}"), key=key)
    pids = await pids_of(key, ON_A_THREAD[way])
    counted.cancel_last()
    await call.ended()
    assert call.outcome["kind"] == "cancelled"
    assert [pid for pid in pids if await programs.runs(pid)] == []
    assert (await witness.seen(key))[len(pids) :] == ["cleaned"]


@pytest.mark.parametrize("way", ["of_asyncio", "of_anyio"])
async def test_a_process_of_async_code_ends_with_its_cancelled_call(counted, way):
    key = f"process-{way}"
    call = counted.start(counted.function(f"processes:{way}"), key=key)
    (pid,) = await pids_of(key)
    counted.cancel_last()
    await call.ended()
    assert call.outcome["kind"] == "cancelled"
    assert not await programs.runs(pid)


async def test_a_process_that_goes_on_after_its_call_is_named_and_waited_for(counted, monkeypatch):
    key = "process-named"
    told, send = threading.Event(), process_tree.ProcessTree.send

    def send_late(tree: process_tree.ProcessTree, number: int) -> None:
        told.wait(30)
        send(tree, number)

    monkeypatch.setattr(process_tree.ProcessTree, "send", send_late)
    call = counted.start_code(lambda _: programs.of_asyncio(key))
    (pid,) = await pids_of(key)
    counted.cancel_last()
    await call.until("failed")
    told.set()
    await call.ended()
    assert [name for name, _ in call.events] == ["failed", "settled"]
    (names,) = call.named("settled")
    assert [name for name in names if name.startswith("process of python")], names
    assert not await programs.runs(pid)


async def test_a_process_ends_that_the_loop_itself_waits_for(counted):
    with watching(counted):
        key = "process-blocks"
        call = counted.start(counted.function("processes:holds_up"), key=key)

        def give_up() -> None:
            until(lambda: any(map(waits_for_process, counted.host.reports)))
            # As the host would: the loop cannot be told.
            call.cancelled_by_host = True

        threading.Thread(target=give_up, daemon=True).start()
        await call.ended()
    assert call.outcome["kind"] == "cancelled"
    pid, *rest = await witness.seen(key)
    assert rest == ["cleaned"]
    assert not await programs.runs(int(pid))


def waits_for_process(report) -> bool:
    frames, *_ = report
    return any("subprocess.py:" in frame and frame.endswith(" wait") for frame in frames)


@contextlib.contextmanager
def watching(harness):
    """Watches the loop as a host does."""
    watchdog = Watchdog(harness.host, harness.runner, asyncio.get_running_loop(), grace=30.0)
    yield
    watchdog.stop()


async def test_a_call_that_ends_by_itself_leaves_its_process_alone(counted):
    key = "process-left"
    await witness.open_gate(key)
    call = counted.start(counted.function("processes:leaves"), key=key)
    await call.ended()
    assert [name for name, _ in call.events] == ["settled", "done"]
    (pid,) = await pids_of(key)
    await asyncio.sleep(2 * GRACE)
    assert await programs.runs(pid)
    await programs.kill(pid)


async def test_a_call_that_a_limit_ends_before_its_loop_hears_of_it_ends_its_process(counted):
    key = "process-limited"
    call = counted.start(counted.function("processes:leaves"), key=key)
    (pid,) = await pids_of(key)
    call.cancelled_by_host = True
    await witness.open_gate(key)
    await call.ended()
    assert not await programs.runs(pid)


async def test_a_sandbox_that_is_kept_serves_the_next_call(counted):
    keeps = counted.function("processes:keeps_a_sandbox")
    for _ in range(2):
        call = counted.start(keeps, key="process-kept")
        await call.ended()
        assert call.outcome == {"answer": "2\n"}
    first, second = await pids_of("process-kept", 2)
    assert first == second
    programs._kept.pop().shutdown()


@pytest.mark.parametrize("counted", [30.0], indirect=True)
async def test_clean_up_may_run_a_process(counted):
    key = "process-cleans"
    call = counted.start(counted.program("processes:CleansUp"), key=key)
    (pid,) = await pids_of(key)
    counted.cancel_last()
    await call.ended()
    assert await witness.seen(key) == [str(pid), "cleaned", "status 0"]


@pytest.mark.parametrize("counted", [30.0], indirect=True)
async def test_a_process_of_clean_up_is_not_told_to_stop_with_its_call(counted, monkeypatch):
    cancel, told = CallProcess.cancel, set()
    call = counted.start(counted.program("processes:CleansUp"), key="process-late")
    await pids_of("process-late")
    (state,) = counted.runner._calls.values()

    def has_started_another() -> bool:
        return any(isinstance(child, CallProcess) for child in set(state.children) - told)

    def cancel_late(process: CallProcess, msg=None) -> bool:
        told.add(process)
        cancel(process)
        # The loop stands still until the clean-up has started its own.
        assert len(told) > 1 or until(has_started_another)
        return False

    monkeypatch.setattr(CallProcess, "cancel", cancel_late)
    counted.cancel_last()
    await call.ended()
    assert len(told) == 1
    assert (await witness.seen("process-late"))[1:] == ["cleaned", "status 0"]


async def test_a_process_of_clean_up_that_goes_on_is_told_to_stop_after_the_grace(counted):
    call = counted.start(counted.program("processes:CleansUp"), key="process-long", seconds=3600)
    await pids_of("process-long")
    counted.cancel_last()
    await call.ended()
    assert (await witness.seen("process-long"))[1:] == ["cleaned", f"status {-signal.SIGTERM}"]


async def test_the_workers_of_a_pool_are_left_alone(counted):
    key = "process-pool"
    call = counted.start(counted.function("processes:uses_a_pool"), key=key)
    (pid,) = await pids_of(key)
    counted.cancel_last()
    await call.ended()
    await asyncio.sleep(2 * GRACE)
    assert await programs.runs(pid)
    await programs.kill(pid)


async def test_the_server_of_a_manager_is_left_alone(counted):
    key = "process-manager"
    call = counted.start(counted.function("processes:uses_a_manager"), key=key)
    (pid,) = await pids_of(key)
    counted.cancel_last()
    await call.ended()
    await asyncio.sleep(2 * GRACE)
    assert await programs.runs(pid)
    programs._kept_manager.pop().shutdown()


def own_children() -> set[int]:
    """The ids of this process's children, those among them that were not reaped."""
    pids = process_tree._all_pids()
    return {pid for pid in pids if process_tree._parent_and_group(pid)[:1] == (os.getpid(),)}


async def test_a_process_is_reaped_whose_start_was_interrupted(counted):
    key, before = "process-slow", own_children()
    call = counted.start(counted.program("processes:SlowToStart"), key=key)
    (descriptor,) = await pids_of(key)
    await eventually(lambda: own_children() - before)
    counted.cancel_last()
    os.write(descriptor, b"x")
    await call.ended()
    assert call.outcome["kind"] == "cancelled"
    await eventually(lambda: not own_children() - before)


async def test_a_process_that_cannot_be_killed_is_named_once(counted, monkeypatch, caplog):
    monkeypatch.setattr(call_process, "_PAUSE", 0.01)
    sent = []
    # As the kernel answers for a process of another user.
    monkeypatch.setattr(process_tree.Process, "send", lambda _, number: sent.append(number))
    key = "process-of-another-user"
    call = counted.start(counted.program("processes:Popen"), key=key)
    (pid,) = await pids_of(key)
    counted.cancel_last()
    await eventually(lambda: sent.count(signal.SIGKILL) >= 4)
    assert call.named("settled") == []
    (message,) = own_messages(caplog)
    assert "process of python" in message
    monkeypatch.undo()
    await programs.kill(pid)
    await call.ended()


async def test_no_thread_is_started_for_a_process_that_has_ended(counted, monkeypatch):
    monkeypatch.setattr(CallProcess, "_end_tree", None)
    key = "process-has-ended"
    call = counted.start(counted.function("processes:leaves"), key=key)
    (pid,) = await pids_of(key)
    await programs.kill(pid)
    await ended(pid)
    counted.cancel_last()
    await call.ended()


async def test_processes_that_have_ended_leave_no_descriptor_open(counted):
    call = counted.start(counted.program("processes:Many"), key="process-many")
    await call.ended()
    # Others of this process may have been closed meanwhile.
    assert call.outcome["more"] <= 1, call.outcome


async def test_the_processes_of_a_stopped_host_are_killed_at_the_end_of_its_grace(counted):
    # Not the one with the shorter grace.
    subprocess.Popen.__init__ = subprocess.Popen.__init__.__wrapped__
    processes.install(asyncio.get_running_loop(), 3600)
    key = "process-stopped"
    call = counted.start(counted.program("processes:Ignores"), key=key)
    (pid,) = await pids_of(key)
    await counted.stop(0.05)
    assert len(call.named("abandon")) == 1
    await ended(pid)


async def test_a_process_that_starts_outside_a_call_is_left_alone(counted):
    with subprocess.Popen(programs.python(programs.WAITS), stdout=subprocess.PIPE) as child:
        await eventually(child.stdout.readline)
        assert child.poll() is None
        child.kill()
