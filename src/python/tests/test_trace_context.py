"""The trace of a call in its program's spans and in the headers of its LM calls."""

import asyncio
import contextvars
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
import pytest_asyncio
from anyio import to_thread
from conftest import ask, ask_sync
from fakes import FakeCall, FakeExchangeHost
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Status, StatusCode

from tower_dspy import trace_context
from tower_dspy.patches import threads

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"

pytestmark = pytest.mark.asyncio


@pytest.fixture
def installed(monkeypatch):
    for name in ("_context", "_propagator"):
        monkeypatch.setattr(trace_context, name, None)
    assert trace_context.install() == []
    assert trace_context._context is not None


@pytest.fixture
def spans(installed) -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(spans) -> trace.Tracer:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider.get_tracer("test")


@pytest_asyncio.fixture
async def counted(monkeypatch, harness):
    for owner, name in (
        (ThreadPoolExecutor, "submit"),
        (threading.Thread, "start"),
        (to_thread, "run_sync"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    threads.install(asyncio.get_running_loop())
    return harness


def started(harness, code, trace_headers: dict[str, str] | None) -> FakeCall:
    call = FakeCall()
    call.trace_headers = trace_headers
    harness.start_code(code, call)
    return call


async def test_spans_of_tasks_and_of_all_threads_join_the_trace(counted, tracer, spans):
    def span(name: str) -> None:
        tracer.start_span(name).end()

    async def code(_):
        with tracer.start_as_current_span("outer"):
            await asyncio.create_task(asyncio.to_thread(span, "to_thread"))
            await asyncio.get_running_loop().run_in_executor(None, span, "executor")
            await to_thread.run_sync(span, "anyio")
            thread = threading.Thread(target=lambda: span("thread"))
            thread.start()
            await asyncio.to_thread(thread.join)
            with ThreadPoolExecutor(1) as pool:
                await asyncio.wrap_future(pool.submit(span, "pool"))
            parallel = dspy.Parallel(num_threads=2, disable_progress_bar=True)
            await asyncio.to_thread(parallel, [(span, ("parallel",)), (span, ("parallel",))])

    call = started(counted, code, {"traceparent": PARENT})
    await call.ended()
    assert call.named("failed") == []
    found = spans.get_finished_spans()
    (outer,) = (span for span in found if span.name == "outer")
    assert f"{outer.context.trace_id:032x}" == TRACE
    assert f"{outer.parent.span_id:016x}" == "00f067aa0ba902b7"
    inner = [span for span in found if span.name != "outer"]
    assert sorted(span.name for span in inner) == [
        *("anyio", "executor", "parallel", "parallel", "pool", "thread", "to_thread")
    ]
    assert {span.parent.span_id for span in inner} == {outer.context.span_id}


async def test_a_call_without_a_trace_is_not_in_that_of_the_last_call(harness, tracer, spans):
    async def code(_):
        tracer.start_span("span").end()

    target = harness.function("inputs:echo")
    harness.runner._loads.targets[target].entry = code
    turn_of_the_loop = contextvars.copy_context()
    calls = FakeCall(), FakeCall()
    calls[0].trace_headers = {"traceparent": PARENT}
    for sequence, call in enumerate(calls):
        turn_of_the_loop.run(harness.runner.start, sequence, call, target, {}, None)
    for call in calls:
        await call.ended()
    first, second = spans.get_finished_spans()
    assert f"{first.context.trace_id:032x}" == TRACE
    assert second.parent is None
    assert second.context.trace_id != first.context.trace_id


@pytest.mark.parametrize("asked", [ask, ask_sync])
async def test_an_lm_call_has_the_headers_of_the_current_span(
    patched, http: FakeExchangeHost, call, tracer, asked
):
    with tracer.start_as_current_span("outer") as outer:
        answer = asked(dspy.LM("openai/x", api_key="k", cache=False))
        if asyncio.iscoroutine(answer):
            await answer
    ((_, _, request),) = http.sent
    context = outer.get_span_context()
    expected = f"00-{context.trace_id:032x}-{context.span_id:016x}-"
    assert dict(request.headers)["traceparent"].startswith(expected)


async def test_headers_that_a_request_has_stay_and_without_a_span_there_are_none(installed, tracer):
    given = [("Traceparent", PARENT)]
    with tracer.start_as_current_span("outer"):
        trace_context.add_headers(given)
    assert given == [("Traceparent", PARENT)]
    trace_context.leave()
    added: list[tuple[str, str]] = []
    trace_context.add_headers(added)
    assert added == []
    assert trace_context.headers() == {}


async def test_without_the_api_a_call_is_not_asked_for_its_trace(monkeypatch, harness):
    monkeypatch.setattr(trace_context, "_context", None)
    monkeypatch.setattr(trace_context, "_propagator", None)

    class Untraced(FakeCall):
        def trace(self):
            raise AssertionError("asked")

    async def code(_):
        return trace_context.headers()

    call = Untraced()
    harness.start_code(code, call)
    await call.ended()
    assert call.outcome == {}

    def function() -> None: ...

    assert trace_context.carried(function) is function


@pytest.mark.parametrize(
    ("late", "expected"), [(False, (StatusCode.UNSET, None)), (True, (StatusCode.ERROR, "timeout"))]
)
async def test_of_a_cancelled_call_only_a_limit_of_time_is_an_error_of_its_spans(
    patched, harness, tracer, spans, late, expected
):
    begun = asyncio.Event()

    async def code(_):
        # As a context manager, a span sets its status itself.
        with tracer.start_as_current_span("current"), tracer.start_span("manager"):
            callback = tracer.start_span("callback")
            try:
                begun.set()
                await asyncio.Event().wait()
            except BaseException:
                callback.set_status(StatusCode.ERROR, "cancelled")
                raise
            finally:
                callback.end()

    call = started(harness, code, {"traceparent": PARENT})
    await begun.wait()
    call.late = late
    harness.cancel_last()
    await call.ended()
    found = spans.get_finished_spans()
    assert [span.name for span in found] == ["callback", "manager", "current"]
    ends = [(span.status.status_code, span.attributes.get("error.type")) for span in found]
    assert ends == [expected] * 3


async def test_a_status_of_another_type_is_left_to_the_sdk(patched, tracer):
    span = tracer.start_span("span")
    span.set_status(None)
    span.set_status("ERROR")
    span.end()


async def test_an_api_that_cannot_be_imported_is_a_warning(monkeypatch):
    for name in ("_context", "_propagator"):
        monkeypatch.setattr(trace_context, name, None)

    class Broken:
        def find_spec(self, name: str, *_):
            if name.startswith("opentelemetry"):
                raise RuntimeError("a broken plug-in")

    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    (warning,) = trace_context.install()
    assert "a broken plug-in" in warning
    assert trace_context.headers() == {}


async def test_an_error_of_a_program_is_the_status_of_its_spans(patched, harness, tracer, spans):
    async def code(_):
        with tracer.start_span("raises"):
            raise ValueError("no")

    async def gives_up(_):
        span = tracer.start_span("status")
        # A cancel that is none of the call's.
        try:
            raise asyncio.CancelledError
        except asyncio.CancelledError:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    for program in (code, gives_up):
        await started(harness, program, None).ended()
    found = spans.get_finished_spans()
    assert [span.status.status_code for span in found] == [StatusCode.ERROR] * 2
