"""Loads in steps: on the loop, and for what takes long on a thread, one load after another."""

import gc
import sys
import threading
import weakref
from collections.abc import Callable

import pytest
import pytest_asyncio
from conftest import RunnerHarness
from fakes import FakeLoad, eventually

from tower_dspy import lm_address, packages, program
from tower_dspy.faults import HostError


def lm(number: int) -> dict:
    return {"id": number, "model": f"openai/{number}", "base_url": "http://lm/v1", "has_key": True}


QA = {"target": "question -> answer", "lm": lm(1)}


class SlowImport:
    """The import of a package, which the first load alone needs, or each."""

    def __init__(self, needed_by: int = sys.maxsize) -> None:
        self.threads: list[threading.Thread] = []
        self._needed_by = needed_by
        self._released = threading.Event()

    def missing(self, *_) -> Callable[[], None] | None:
        self._needed_by -= 1
        return self._import if self._needed_by >= 0 else None

    def release(self) -> None:
        self._released.set()

    def _import(self) -> None:
        self.threads.append(threading.current_thread())
        assert self._released.wait(30)


@pytest_asyncio.fixture
async def first_import(monkeypatch: pytest.MonkeyPatch):
    slow = SlowImport(needed_by=1)
    monkeypatch.setattr(packages, "missing", slow.missing)
    yield slow
    slow.release()


async def loaded(load: FakeLoad) -> None:
    await eventually(lambda: load.description or load.fault)
    assert load.fault is None


@pytest.mark.asyncio
async def test_the_loop_goes_on_while_a_package_is_imported(harness: RunnerHarness, first_import):
    echo = harness.function("inputs:echo")
    load = FakeLoad()
    harness.runner.load(QA, load)
    await harness.start(echo, text="meanwhile").ended()
    assert (load.description, load.turns, harness.runner.current_program()) == (None, 1, None)
    first_import.release()
    await loaded(load)
    assert load.turns == 2
    assert first_import.threads != [threading.main_thread()]


@pytest.mark.asyncio
async def test_a_load_whose_step_never_ends_fails_at_its_limit_and_the_next_one_goes_on(
    harness: RunnerHarness, first_import
):
    harness.runner._loads._limit = 0.05
    stuck, function, again = FakeLoad(), FakeLoad(), FakeLoad()
    harness.runner.load(QA, stuck)
    harness.runner.load({"target": "inputs:echo", "function": True}, function)
    await loaded(function)
    assert (stuck.fault["kind"], stuck.description) == ("elapsed", None)
    assert "`load_limit`" in stuck.fault["message"]
    # What the step returns is dropped, and the program can be loaded again.
    first_import.release()
    await eventually(lambda: first_import.threads)
    first_import.threads[0].join(30)
    harness.runner.load(QA, again)
    await loaded(again)
    assert (stuck.turns, stuck.description) == (1, None)


@pytest.mark.asyncio
async def test_the_limit_of_a_load_counts_from_its_beginning(harness: RunnerHarness, monkeypatch):
    loads = harness.runner._loads
    loads._limit = 60
    counted = []

    def missing(*_) -> None:
        counted.append(loads._under_way.timer is not None)

    monkeypatch.setattr(packages, "missing", missing)
    load = FakeLoad()
    harness.runner.load(QA, load)
    await loaded(load)
    assert counted == [True]


@pytest.mark.asyncio
async def test_a_failed_import_fails_the_load_and_the_next_one_goes_on(harness, monkeypatch):
    def import_nothing() -> None:
        raise HostError("package", "there is no numpy")

    monkeypatch.setattr(packages, "missing", lambda *_: import_nothing)
    failed, broken, function = FakeLoad(), FakeLoad(), FakeLoad()
    harness.runner.load(QA, failed)
    harness.runner.load({"target": "shapes:Missing"}, broken)
    harness.runner.load({"target": "inputs:echo", "function": True}, function)
    await loaded(function)
    assert (failed.fault["kind"], failed.fault["message"]) == ("package", "there is no numpy")
    assert broken.fault["kind"] == "not_found"
    with pytest.raises(HostError, match="no numpy"):
        program.load(None, QA)


@pytest.mark.asyncio
async def test_a_load_begins_when_the_one_before_has_ended(harness: RunnerHarness, monkeypatch):
    slow = SlowImport()
    monkeypatch.setattr(packages, "missing", slow.missing)
    loads = [FakeLoad() for _ in range(3)]
    for load in loads:
        harness.runner.load(QA, load)
    await eventually(lambda: slow.threads)
    assert [load.turns for load in loads] == [1, 0, 0]
    slow.release()
    for load in loads:
        await loaded(load)
    # No two imports at once; each load goes on twice.
    assert [load.turns for load in loads] == [2, 2, 2]
    assert len(set(slow.threads)) == 3
    # And in their order.
    assert [load.description["id"] for load in loads] == [1, 2, 3]


@pytest.mark.asyncio
async def test_loads_of_one_instance_keep_their_own_lms(harness: RunnerHarness, first_import):
    loads = {1: FakeLoad(), 2: FakeLoad()}
    for number, load in loads.items():
        lms = [{"name": "own", **lm(number)}]
        spec = {"target": "shapes:instance", "lms": lms, "predictor_lms": [["qa.predict", "own"]]}
        harness.runner.load(spec, load)
    assert loads[2].description is None
    first_import.release()
    used = {}
    for number, load in loads.items():
        await loaded(load)
        entry = harness.runner._loads.targets[load.description["id"]].entry
        used[number] = entry.__self__.call.__self__
    models = {number: own.qa.predict.lm.model for number, own in used.items()}
    assert models == {1: "openai/1", 2: "openai/2"}


def test_a_step_gives_the_load_its_value_or_its_exception(monkeypatch):
    def steps(_host, _spec):
        try:
            yield lambda: 1 / 0
        except ZeroDivisionError:
            return (yield lambda: "a value")

    monkeypatch.setattr(program, "loading_steps", steps)
    assert program.load(None, QA) == "a value"


CLOUD = {"id": 1, "model": "vertex:gemini-x", "base_url": None}


@pytest.mark.asyncio
@pytest.mark.parametrize("given", [{"lm": CLOUD}, {"lms": [{"name": "a", "members": [CLOUD] * 2}]}])
async def test_the_loop_goes_on_while_credentials_are_looked_for(harness, monkeypatch, given):
    release, threads = threading.Event(), []

    def requested(_) -> str:
        threads.append(threading.current_thread())
        assert release.wait(30)
        return "https://cloud.test/v1"

    monkeypatch.setattr(lm_address, "requested", requested)
    harness.host._keyed = False
    echo, load = harness.function("inputs:echo"), FakeLoad()
    harness.runner.load({"target": "question -> answer", **given}, load)
    await harness.start(echo, text="meanwhile").ended()
    assert (load.description, load.fault) == (None, None)
    release.set()
    await loaded(load)
    assert threads and threading.main_thread() not in threads


@pytest.mark.asyncio
async def test_credentials_that_are_not_found_fail_the_load(harness, monkeypatch):
    def requested(_) -> str:
        raise ValueError("there is no login")

    monkeypatch.setattr(lm_address, "requested", requested)
    harness.host._keyed = False
    load = FakeLoad()
    harness.runner.load({"target": "question -> answer", "lm": CLOUD}, load)
    await eventually(lambda: load.description or load.fault)
    assert load.fault["kind"] == "lm"
    assert "there is no login" in load.fault["message"]


@pytest.mark.asyncio
async def test_a_load_that_can_start_no_thread_fails_and_the_next_goes_on(harness, monkeypatch):
    class NoThread:
        def __init__(self, **_: object) -> None:
            pass

        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    slow = SlowImport(needed_by=1)
    monkeypatch.setattr(packages, "missing", slow.missing)
    monkeypatch.setattr("tower_dspy.loads.threading.Thread", NoThread)
    failing, next_one = FakeLoad(), FakeLoad()
    harness.runner.load(QA, failing)
    harness.runner.load(QA, next_one)
    await loaded(next_one)
    assert "can't start new thread" in str(failing.fault)


@pytest.mark.asyncio
async def test_a_load_that_nobody_waits_for_is_skipped(harness, first_import):
    loads = [FakeLoad() for _ in range(3)]
    for load in loads:
        harness.runner.load(QA, load)
    loads[1].wanted = False
    first_import.release()
    await loaded(loads[2])
    assert [load.description is not None for load in loads] == [True, False, True]


@pytest.mark.asyncio
async def test_a_runner_that_stops_drops_its_loads(harness, first_import):
    loads = [FakeLoad() for _ in range(2)]
    dropped = [weakref.ref(load) for load in loads]
    while loads:
        harness.runner.load(QA, loads.pop())
    harness.runner._loads.stop()
    gc.collect()
    assert [load() for load in dropped] == [None, None]
    first_import.release()
