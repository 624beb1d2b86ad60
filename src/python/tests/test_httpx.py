"""Requests by httpx in a call: through the host, as LM calls where they are."""

import asyncio
import gc
import http.server
import logging
import ssl
import subprocess
import threading

import dspy
import httpx
import pytest
from conftest import HOST_LM, RunnerHarness, ask, ask_sync, chat, own_messages
from fakes import FakeCall, FakeExchangeHost, FakeLmHost, eventually

from tower_dspy import host_lms
from tower_dspy.call_state import CURRENT_CALL, CallState, Cancelled

pytestmark = pytest.mark.asyncio

HOST = {**HOST_LM, "model": "mistral/m"}


@pytest.fixture
def real_server():
    """A server that httpx reaches by itself."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-length", "4")
            self.end_headers()
            self.wfile.write(b"real")

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


async def test_a_request_by_litellm_is_an_lm_call(http: FakeExchangeHost, call: FakeCall):
    CURRENT_CALL.get().lms = (7,)
    its_lm = host_lms.build_lm(FakeLmHost(), HOST)
    assert (await ask(its_lm)).answer == "yes"
    assert ask_sync(its_lm).answer == "yes"
    assert len(http.sent) == 2
    for route, _, request in http.sent:
        assert route == ([7], "mistral/m", None, False)
        assert ("authorization", "Bearer TOWER-DSPY-KEY-7") in [
            (name.lower(), value) for name, value in request.headers
        ]
    assert call.named("stepped") == [(1, (3, 5, 8)), (2, (3, 5, 8))]
    assert call.named("bypassed") == []


# By litellm's own client, and by OpenAI's SDK.
@pytest.mark.parametrize("model", ["mistral/m", "deepinfra/m"])
async def test_litellm_does_not_retry_and_logs_outside_the_call(
    http: FakeExchangeHost, call: FakeCall, model: str
):
    http.answer({"error": {"message": "busy"}}, status=503)
    its_lm = host_lms.build_lm(FakeLmHost(), {**HOST, "model": model})
    for _ in range(2):
        with pytest.raises(dspy.utils.exceptions.LMError):
            await ask(its_lm)
        with pytest.raises(dspy.utils.exceptions.LMError):
            ask_sync(its_lm)
    assert len(http.sent) == 4
    assert not CURRENT_CALL.get().children


@pytest.mark.parametrize("model", ["mistral/m", "deepinfra/m"])
async def test_what_litellm_logs_of_an_answer_is_of_no_call(
    http: FakeExchangeHost, call: FakeCall, model: str, harness: RunnerHarness
):
    """The harness has the loop count the tasks of a call, and this test's is one."""
    its_lm = host_lms.build_lm(FakeLmHost(), {**HOST, "model": model})
    assert (await ask(its_lm)).answer == "yes"
    assert set(CURRENT_CALL.get().children) <= {asyncio.current_task()}


async def test_an_sdks_call_is_an_lm_call_with_the_model_in_its_body(
    http: FakeExchangeHost, call: FakeCall
):
    import openai

    CURRENT_CALL.get().lms = (7, 8)
    http.answer(chat("yes"))
    messages = [{"role": "user", "content": "?"}]
    client = openai.AsyncOpenAI(api_key="own", base_url="http://own/v1", max_retries=0)
    answer = await client.chat.completions.create(model="own-model", messages=messages)
    assert answer.choices[0].message.content == "yes"
    client = openai.OpenAI(api_key="own", base_url="http://own/v1", max_retries=0)
    client.chat.completions.create(model="own-model", messages=messages)
    assert [route for route, _, _ in http.sent] == [([7, 8], "own-model", None, False)] * 2


async def test_other_requests_go_through_the_host_unless_the_load_says_otherwise(
    http: FakeExchangeHost, call: FakeCall, real_server: str
):
    http.events = (("full", 200, [("x", "y")], b"carried"),)
    async with httpx.AsyncClient(timeout=3) as client:
        answer = await client.get(f"{real_server}/page")
        assert (answer.text, answer.headers["x"]) == ("carried", "y")
    with httpx.Client() as client:
        assert client.post(f"{real_server}/page", content=b"body").text == "carried"
    (route, timeout, first), (_, _, second) = http.sent
    assert (route, timeout, first.method, first.url) == (None, 3, "GET", f"{real_server}/page")
    assert second.body == b"body"
    names = [name.lower() for name, _ in second.headers]
    assert "host" not in names and "content-length" not in names

    CURRENT_CALL.get().carries_http = False
    async with httpx.AsyncClient() as client:
        assert (await client.get(real_server)).text == "real"


async def test_outside_a_call_only_dspys_lm_calls_go_through_the_host(
    http: FakeExchangeHost, real_server: str
):
    assert (await ask(host_lms.build_lm(FakeLmHost(), HOST))).answer == "yes"
    assert [route for route, _, _ in http.sent] == [([7], "mistral/m", None, False)]
    http.sent.clear()
    async with httpx.AsyncClient() as client:
        assert (await client.get(real_server)).text == "real"
    assert httpx.get(real_server).text == "real"
    assert http.sent == []


async def test_a_stream_comes_in_chunks_and_is_aborted_when_it_is_left(
    http: FakeExchangeHost, call: FakeCall
):
    head = ("head", 200, [("content-type", "text/event-stream")])
    http.events = (head, ("chunk", b"one "), ("chunk", b"two"), ("end",))
    async with httpx.AsyncClient() as client, client.stream("GET", "http://host/sse") as answer:
        assert [part async for part in answer.aiter_raw()] == [b"one ", b"two"]
    with httpx.Client() as client, client.stream("GET", "http://host/sse") as answer:
        assert next(answer.iter_raw()) == b"one "
        before = http.aborted
    assert http.aborted > before


async def test_a_stream_that_is_dropped_unread_is_aborted(http: FakeExchangeHost, call: FakeCall):
    head = ("head", 200, [("content-type", "text/event-stream")])
    http.events = (head, ("chunk", b"one"), ("chunk", b"two"), ("end",))
    with httpx.Client() as client:
        parts = client.send(client.build_request("GET", "http://host/"), stream=True).iter_raw()
        assert next(parts) == b"one" and http.aborted == 0
        del parts
        gc.collect()
        assert http.aborted == 1
    async with httpx.AsyncClient() as client:
        answer = await client.send(client.build_request("GET", "http://host/"), stream=True)
        parts = answer.aiter_raw()
        assert await anext(parts) == b"one" and http.aborted == 1
        del answer, parts
        gc.collect()
        await eventually(lambda: http.aborted == 2)


async def test_an_answer_ends_with_its_call_for_another_call_that_reads_it(http: FakeExchangeHost):
    head = ("head", 200, [("content-type", "text/event-stream")])
    http.events = (head, ("cancelled",))
    first, second = CallState(1, FakeCall(), None), CallState(2, FakeCall(), None)
    sync, client = httpx.Client(), httpx.AsyncClient()
    CURRENT_CALL.set(first)
    of_thread = sync.send(sync.build_request("GET", "http://host/"), stream=True)
    http.events = (head,)
    before, waiting = [
        await client.send(client.build_request("GET", "http://host/"), stream=True)
        for _ in range(2)
    ]
    CURRENT_CALL.set(second)
    reads = asyncio.create_task(waiting.aread())
    await asyncio.sleep(0)
    first.closed = True
    for exchange in tuple(first.exchanges):
        exchange.interrupt()
    with pytest.raises(httpx.ReadError, match="has ended"):
        await reads
    with pytest.raises(httpx.ReadError, match="has ended"):
        await before.aread()
    with pytest.raises(httpx.ReadError, match="has ended"):
        of_thread.read()
    CURRENT_CALL.set(None)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("connect", httpx.ConnectError),
        ("connect_timeout", httpx.ConnectTimeout),
        ("read", httpx.ReadError),
        ("read_timeout", httpx.ReadTimeout),
        ("protocol", httpx.RemoteProtocolError),
        ("other", httpx.TransportError),
    ],
)
async def test_failures_are_httpxs_own(http: FakeExchangeHost, call: FakeCall, kind, error):
    http.events = (("failed", kind, "what happened"),)
    async with httpx.AsyncClient() as client:
        with pytest.raises(error, match="what happened") as caught:
            await client.get("http://host/")
    assert caught.value.request.url.host == "host"
    with httpx.Client() as client, pytest.raises(error):
        client.get("http://host/")


async def test_a_call_that_is_over_sends_nothing(http: FakeExchangeHost, call: FakeCall):
    http.closed = True
    with httpx.Client() as client, pytest.raises(Cancelled):
        client.get("http://host/")
    async with httpx.AsyncClient() as client:
        with pytest.raises(asyncio.CancelledError):
            await client.get("http://host/")


async def test_requests_with_own_certificate_authorities_bypass_the_host_except_lm_calls(
    http: FakeExchangeHost, call: FakeCall, real_server: str, tmp_path
):
    make = "openssl req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -subj /CN=own -out"
    own = tmp_path / "own.pem"
    subprocess.run([*make.split(), own], check=True, capture_output=True)
    usual, context = ssl.create_default_context(), ssl.create_default_context(cafile=str(own))
    for verify, gets in [(usual, "carried"), (True, "carried"), (context, "real")]:
        http.events = (("full", 200, [], b"carried"),)
        with httpx.Client(verify=verify) as client:
            assert client.get(real_server).text == gets
            assert client.post(f"{real_server}/v1/messages").text == "carried"
    assert call.named("bypassed") == []


async def test_connections_that_the_host_cannot_make_are_httpxs_and_reported(
    http: FakeExchangeHost, call: FakeCall, real_server: str, caplog
):
    transport = httpx.HTTPTransport(local_address="127.0.0.1")
    caplog.set_level(logging.WARNING, "tower_dspy.startup")
    with httpx.Client(transport=transport) as client:
        assert client.get(real_server).text == "real"
        assert client.get(real_server).text == "real"
        (said,) = own_messages(caplog)
        assert "127.0.0.1" in said and "a local address" in said
        client.post(f"{real_server}/v1/chat/completions", json={"model": "m"})
    assert http.sent == []
    assert call.named("bypassed") == ["127.0.0.1, by httpx with a local address"]


async def test_litellm_writes_nothing_to_stderr(http: FakeExchangeHost, call: FakeCall, capfd):
    await ask(host_lms.build_lm(FakeLmHost(), HOST))
    logging.getLogger("LiteLLM").warning("the prompt was: a secret")
    assert "secret" not in "".join(capfd.readouterr())


async def test_headers_of_answers_keep_their_bytes(http: FakeExchangeHost, call: FakeCall):
    # UTF-8, as the host reads it: a character a byte.
    http.events = (("full", 200, [("x-name", "caf\u00c3\u00a9")], b""),)
    with httpx.Client() as client:
        answer = client.get("http://host/")
    assert answer.headers.raw == [(b"x-name", "caf\u00e9".encode())]
    assert answer.headers["x-name"] == "caf\u00e9"


async def test_a_host_header_of_the_program_is_sent(http: FakeExchangeHost, call: FakeCall):
    with httpx.Client() as client:
        client.get("http://host:81/", headers={"Host": "virtual"})
        client.get("http://host:81/")
    hosts = [dict(request.headers).get("Host") for _, _, request in http.sent]
    assert hosts == ["virtual", None]


async def test_any_request_with_a_placeholder_is_an_lm_request(
    http: FakeExchangeHost, call: FakeCall
):
    import openai

    CURRENT_CALL.get().lms = (7,)
    CURRENT_CALL.get().carries_http = False
    http.answer({"object": "list", "data": []})
    key = "TOWER-DSPY-KEY-7"
    openai.OpenAI(api_key=key, base_url="http://host/v1", max_retries=0).models.list()
    # A redirect makes a GET of a POST, and keeps all headers but one.
    http.events = (("full", 303, [("location", "http://elsewhere/")], b""),)
    with httpx.Client(follow_redirects=True, max_redirects=1) as client:
        with pytest.raises(httpx.TooManyRedirects):
            client.post("http://host/v1/messages", headers={"x-api-key": key}, json={"model": "m"})
        http.answer({})
        client.get(f"http://host/v1beta/models?key={key}")
    assert [(route, request.url) for route, _, request in http.sent] == [
        (([7], "", None, False), "http://host/v1/models"),
        (([7], "m", None, False), "http://host/v1/messages"),
        (([7], "", None, False), "http://elsewhere/"),
        (([7], "", None, False), f"http://host/v1beta/models?key={key}"),
    ]


async def test_a_request_that_the_host_cannot_send_fails_with_an_httpx_error(
    http: FakeExchangeHost, call: FakeCall
):
    def refuse(*_):
        raise ValueError("it is too long")

    http.open = refuse
    with httpx.Client() as client, pytest.raises(httpx.TransportError, match="too long"):
        client.get("http://host/")
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.TransportError, match="too long"):
            await client.get("http://host/")


async def test_a_transport_may_be_made_with_its_options_by_position(
    http: FakeExchangeHost, call: FakeCall
):
    http.events = (("full", 200, [], b"carried"),)
    limits = httpx.Limits(max_connections=1)
    transport = httpx.HTTPTransport(True, None, True, True, False, limits, None)
    with httpx.Client(transport=transport) as client:
        assert client.get("http://host/").text == "carried"


async def test_an_answer_that_a_call_left_unread_is_aborted_when_the_call_is_settled(
    http: FakeExchangeHost, harness: RunnerHarness
):
    http.events = (("head", 200, []),)
    kept = []

    async def leaves(_inputs):
        client = httpx.AsyncClient()
        request = client.build_request("GET", "http://host/")
        kept.append(await client.send(request, stream=True))

    call = harness.start_code(leaves)
    await call.ended()
    assert http.aborted == 1 and kept
