"""A runner on the test's loop, and what several tests do."""

import asyncio
import contextvars
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dspy
import pytest
import pytest_asyncio
from fakes import FakeCall, FakeExchangeHost, FakeHost, FakeLoad

import witness
from tower_dspy import exchange, patches, startup
from tower_dspy.call_state import CURRENT_CALL, CallState
from tower_dspy.executor import CallExecutor
from tower_dspy.interrupt import InterruptibleRun
from tower_dspy.loop import _child_task
from tower_dspy.patches import configure
from tower_dspy.pool import Pool
from tower_dspy.runner import Runner

# Before a test imports litellm: else that asks the network for prices, and logs from a thread.
startup.before_import()

# The host's configuration of an LM.
HOST_LM = {"id": 7, "model": "openai/host", "base_url": "http://host/v1", "keyed": True}


def in_a_process(code: str, **options: Any) -> str:
    """Runs code in a process with the modules of these tests; returns what it prints."""
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path}\n{code}"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def running(function: Callable[[], Any]) -> Iterator[InterruptibleRun]:
    """Executes a function on a thread and waits for its end."""
    run = InterruptibleRun(function)
    thread = threading.Thread(target=run.execute, daemon=True)
    thread.start()
    yield run
    thread.join(30)
    assert not thread.is_alive()


def own_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What this package logged; the libraries below it log on threads of their own."""
    return [record.message for record in caplog.records if record.name.startswith("tower_dspy")]


def chat(text: str) -> dict[str, Any]:
    """An answer of OpenAI's chat completions."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
    }


@pytest.fixture(scope="session", autouse=True)
def patched() -> None:
    """As in a host: once, for the life of the process."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    patches.install()


@pytest.fixture
def http() -> FakeExchangeHost:
    """The host of HTTP requests; it answers each with `yes` in the field `answer`."""
    host = FakeExchangeHost()
    host.answer(chat("[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"))
    exchange.connect(host)
    return host


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A server that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        yield server


@pytest.fixture
def connect(server: socket.socket) -> Callable[[], socket.socket]:
    def connect() -> socket.socket:
        return socket.create_connection(server.getsockname())

    return connect


@contextmanager
def in_call(call: FakeCall | None = None, remaining: float | None = None) -> Iterator[CallState]:
    """Makes the block the code of a call."""
    state = CallState(1, call, remaining)
    token = CURRENT_CALL.set(state)
    try:
        yield state
    finally:
        CURRENT_CALL.reset(token)


@pytest.fixture
def call() -> Iterator[FakeCall]:
    """The call that the test's code belongs to."""
    call = FakeCall()
    with in_call(call):
        yield call


async def ask(lm: dspy.BaseLM) -> dspy.Prediction:
    """Makes a prediction in async code."""
    with dspy.context(lm=lm):
        return await dspy.Predict("question -> answer").acall(question="?")


def ask_sync(lm: dspy.BaseLM) -> dspy.Prediction:
    """Makes a prediction in sync code."""
    with dspy.context(lm=lm):
        return dspy.Predict("question -> answer")(question="?")


def execute_interrupted(function: Callable[[Callable[[], None]], object]) -> InterruptibleRun:
    """Executes a function on a thread; what the function is passed interrupts that thread."""

    def interrupt() -> None:
        other = threading.Thread(target=run.interrupt)
        other.start()
        other.join()

    run = InterruptibleRun(lambda: function(interrupt))
    thread = threading.Thread(target=run.execute, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    return run


async def until_seen(key: str, *events: str) -> None:
    """Waits until a program has noted these events and no others."""
    async with asyncio.timeout(30):
        while await witness.seen(key) != list(events):
            await asyncio.sleep(0.001)


class RunnerHarness:
    """A runner with a fake host."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.set_task_factory(_child_task)
        self.host = FakeHost()
        user = Pool(self.host, loop, "user", size=4)
        loop.set_default_executor(CallExecutor(user))
        self.pool = Pool(self.host, loop, "sync", size=2, grace=0.05, most_abandoned=1)
        self.runner = Runner(self.host, loop, self.pool)
        self._started = 0

    def function(self, target: str) -> int:
        """Loads a function; returns the id to start it by."""
        return self.load({"target": target, "function": True})["id"]

    def program(self, target: str, **spec: Any) -> int:
        """Loads a program; returns the id to start it by."""
        return self.load({"target": target, **spec})["id"]

    def load(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Loads what needs no import; returns its description."""
        load = FakeLoad()
        self._in_copied_context(self.runner.load, spec, load)
        assert load.description is not None, load.fault
        return load.description

    def start(
        self,
        target: int,
        remaining: float | None = None,
        call: FakeCall | None = None,
        **inputs: Any,
    ) -> FakeCall:
        self._started += 1
        call = call or FakeCall()
        self._in_copied_context(self.runner.start, self._started, call, target, inputs, remaining)
        return call

    def start_code(
        self, code: Callable[[dict[str, Any]], Any], call: FakeCall | None = None
    ) -> FakeCall:
        """Starts a call of an async function."""
        target = self.function("inputs:echo")
        self.runner._loads.targets[target].entry = code
        return self.start(target, call=call)

    async def begin(self, target: int, key: str) -> FakeCall:
        """Starts a call and waits until its program notes that it runs."""
        call = self.start(target, key=key)
        await until_seen(key, "running")
        return call

    async def stop(self, grace: float) -> None:
        """Stops the runner as the host does; the test's loop goes on."""
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        loop.stop = stopped.set
        try:
            for _ in range(2):  # the second one does nothing
                self._in_copied_context(self.runner.stop, grace)
            async with asyncio.timeout(30):
                await stopped.wait()
        finally:
            del loop.stop
        assert self.runner.is_stopped()

    def cancel_last(self) -> None:
        self._in_copied_context(self.runner.cancel, self._started)

    @staticmethod
    def _in_copied_context(function: Any, *args: Any) -> Any:
        # A start sets the context variable of the call.
        return contextvars.copy_context().run(function, *args)


@pytest_asyncio.fixture
async def harness() -> RunnerHarness:
    return RunnerHarness(asyncio.get_running_loop())


@pytest.fixture
def dspy_settings() -> Iterator[None]:
    """Puts DSPy's configuration back."""
    module = configure.dspy_settings
    before = dict(module.main_thread_config)
    module.config_owner_thread_id = module.config_owner_async_task = None
    yield
    module.main_thread_config.clear()
    module.main_thread_config.update(before)
    module.config_owner_thread_id = module.config_owner_async_task = None


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment as of a machine that knows no provider."""
    for name in (
        "OPENAI_API_KEY",
        "XAI_API_KEY",
        "MISTRAL_API_KEY",
        "AWS_BEARER_TOKEN_BEDROCK",
        "AZURE_API_KEY",
        "AZURE_OPENAI_API_KEY",
        "AZURE_OPENAI_ENDPOINT",
        "AZURE_OPENAI_RESOURCE",
        "GOOGLE_CLOUD_PROJECT",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
