import copy
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
from conftest import HOST_LM
from fakes import FakeExchangeHost, FakeLmHost

from tower_dspy import host_lms
from tower_dspy.faults import HostError
from tower_dspy.lm_call import HOST_ID, placeholder


def own(model="openai/own", **kwargs) -> dspy.LM:
    kwargs = {"num_retries": 3, "cache": True, "api_key": "own-key", **kwargs}
    return dspy.LM(model, **kwargs)


def connection(lm: dspy.LM) -> tuple[str | None, str | None]:
    return lm.kwargs.get("api_key"), lm.kwargs.get("api_base")


def test_the_hosts_lm_neither_retries_nor_caches_and_has_a_placeholder():
    built = host_lms.build_lm(FakeLmHost(), {**HOST_LM, "options": {"temperature": 0.5}})
    assert (built.num_retries, built.cache) == (0, False)
    assert built.kwargs["temperature"] == 0.5
    assert connection(built) == ("TOWER-DSPY-KEY-7", "http://host/v1")


def test_dspy_keeps_its_own_engine_and_what_it_knows_of_the_model():
    built = host_lms.build_lm(
        FakeLmHost(), {**HOST_LM, "model": "openai/gpt-4o-mini", "options": {"timeout": 30}}
    )
    assert built.engine == "auto"
    assert built.supports_function_calling and built.supports_response_schema
    assert "response_format" in built.supported_params


def test_what_litellm_does_for_an_lm_is_done_on_a_thread(monkeypatch):
    """The variable has DSPy call OpenAI by litellm, whose first use imports most of it."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gateway/v1")
    on_loop, loop = [], threading.get_ident()
    for name in ("prepare", "provider_of", "requested"):
        done = getattr(host_lms.lm_address, name)

        def watched(*args, name=name, done=done):
            if threading.get_ident() == loop:
                on_loop.append(name)
            return done(*args)

        monkeypatch.setattr(host_lms.lm_address, name, watched)
    config = {"id": 7, "model": "openai/gpt-4o-mini"}
    steps, done = host_lms.building_steps(FakeLmHost(), config), None
    with ThreadPoolExecutor(1) as thread:
        while config.get("keyed") is None:
            try:
                done = thread.submit(steps.send(done)).result()
            except StopIteration as end:
                built = end.value
    assert built.model == "openai/gpt-4o-mini" and config["keyed"]
    assert on_loop == []


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("", "model must be"),
        ("opnai/x", "write `openai/x`"),
        ("OpenAI/x", "write `openai/x`"),
        ("my-model", "names no provider"),
        ("vllm/x", "`hosted_vllm/x`"),
    ],
)
def test_an_unknown_model_is_refused(model, said):
    with pytest.raises(HostError, match=said) as caught:
        host_lms.build_lm(FakeLmHost(), {**HOST_LM, "model": model})
    assert caught.value.kind == "lm"


def test_an_lm_of_a_predictors_own_is_taken_over():
    host, program = FakeLmHost(), dspy.Predict("question -> answer")
    host_lms.take_over_lms(host, program, [HOST_LM])
    assert program.lm is None
    program.lm = own(temperature=0.25, timeout=9, extra_headers={"x-title": "app"})
    host_lms.take_over_lms(host, program, [HOST_LM])
    taken = program.lm
    assert (taken.num_retries, taken.cache) == (0, False)
    assert (taken.model, taken.kwargs["temperature"]) == ("openai/own", 0.25)
    assert (taken.kwargs["timeout"], taken.kwargs["extra_headers"]) == (9, {"x-title": "app"})
    assert connection(taken) == (placeholder(7), "http://host/v1")
    assert host.adopted == []


def test_without_an_lm_of_the_hosts_its_key_moves_to_the_host():
    host = FakeLmHost()
    taken = host_lms.take_over(host, own(api_base="http://own/v1"), [], "it")
    assert host.adopted == [("openai/own", "http://own/v1", "own-key")]
    assert taken.num_retries == 0
    assert connection(taken) == (placeholder(11), "http://own/v1")


def test_an_lm_keeps_its_key_where_only_dspy_knows_the_address():
    taken = host_lms.take_over(FakeLmHost(keyed=False), own("cohere/command"), [], "it")
    assert connection(taken) == ("own-key", None)
    assert getattr(taken, HOST_ID) == 11


@pytest.mark.parametrize(
    "lm_of_its_own",
    [own("anthropic/claude"), "openai/own", dspy.utils.DummyLM([])],
    ids=["another provider", "no LM", "another kind of LM"],
)
def test_the_error_of_an_lm_that_cannot_be_taken_over_names_its_owner(lm_of_its_own):
    with pytest.raises(HostError, match="the predictor `x`") as caught:
        host_lms.take_over(FakeLmHost(), lm_of_its_own, [HOST_LM], "the predictor `x`")
    assert caught.value.kind == "own_lm"


@pytest.mark.parametrize(
    ("hosts_url", "connected"),
    [
        (None, ("own-key", "http://own/v1")),
        ("http://host/v1", (placeholder(7), "http://host/v1")),
    ],
)
def test_an_lm_with_an_address_does_not_go_to_the_public_one(hosts_url, connected):
    host = {**HOST_LM, "base_url": hosts_url}
    taken = host_lms.take_over(FakeLmHost(), own(api_base="http://own/v1"), [host], "it")
    assert connection(taken) == connected
    assert getattr(taken, HOST_ID) == 7


def test_a_function_that_makes_keys_stays_with_the_program():
    def make() -> str:
        return "made"

    host = FakeLmHost(keyed=False)
    taken = host_lms.take_over(host, own(api_key=make), [], "it")
    assert host.adopted == [("openai/own", None, "")]
    assert taken.kwargs["api_key"] is make


def test_predictors_that_share_an_lm_share_its_replacement():
    host, program = FakeLmHost(), dspy.Module()
    program.first, program.second = dspy.Predict("a -> b"), dspy.Predict("b -> c")
    program.set_lm(its_own := own())
    host_lms.take_over_lms(host, program, [])
    assert program.first.lm is program.second.lm
    assert len(host.adopted) == 1
    assert host_lms.replaced_lms(program, None) == {id(its_own): program.first.lm}

    program.set_lm(its_own)
    usual = host_lms.take_over(host, its_own, [], "it")
    host_lms.take_over_lms(host, program, [], usual)
    assert program.first.lm is usual


def test_each_load_of_an_instance_has_lms_of_its_own():
    program = dspy.Module()
    program.first, program.second = dspy.Predict("a -> b"), dspy.Predict("b -> c")
    program.first.lm = own(temperature=0.25)
    loaded = []
    for lm_id in (7, 8, 9):
        config = {**HOST_LM, "id": lm_id}
        named = {"named": host_lms.build_lm(FakeLmHost(), {**config, "id": 10 * lm_id})}
        copied = host_lms.with_original_lms(program, "target")
        host_lms.assign_lms(copied, [["second", "named"]] if lm_id != 9 else [], named, "target")
        host_lms.take_over_lms(FakeLmHost(), copied, [config])
        loaded.append(copied)
    ids = [
        [getattr(predictor.lm, HOST_ID, None) for predictor in copied.predictors()]
        for copied in loaded
    ]
    assert ids == [[7, 70], [8, 80], [9, None]]
    assert loaded[1].first.lm.kwargs["temperature"] == 0.25

    program.lock = threading.Lock()
    with pytest.raises(HostError, match="a factory"):
        host_lms.with_original_lms(program, "target")


def test_copies_of_a_program_are_of_the_same_lm_and_states_leave_the_key_out():
    program = dspy.ChainOfThought("question -> answer")
    program.set_lm(host_lms.build_lm(FakeLmHost(), HOST_LM))
    for copied in (program.deepcopy().predict.lm, copy.deepcopy(program.predict.lm)):
        assert getattr(copied, HOST_ID) == 7
    assert "TOWER-DSPY-KEY" not in str(program.dump_state())


def test_a_programs_lm_gets_the_key_of_the_most_similar_lm():
    hosts = [
        HOST_LM,
        {"id": 8, "model": "openai/own", "keyed": True},
        {"id": 9, "model": "anthropic/claude", "keyed": True},
    ]
    for model, lm_id in [("openai/own", 8), ("openai/x", 7), ("anthropic/y", 9)]:
        taken = host_lms.take_over(FakeLmHost(), own(model), hosts, "it")
        assert taken.kwargs["api_key"] == placeholder(lm_id)


def test_a_predictor_gets_the_lm_that_is_named_for_it():
    program = dspy.ChainOfThought("question -> answer")
    program.predict.lm = own("anthropic/claude")
    named = {"cheap": host_lms.build_lm(FakeLmHost(), HOST_LM)}
    host_lms.assign_lms(program, [["predict", "cheap"]], named, "target")
    # It replaces an LM that could not be taken over, and stays as it is.
    host_lms.take_over_lms(FakeLmHost(), program, [HOST_LM])
    assert program.predict.lm is named["cheap"]
    for choice, said in [(["other", "cheap"], "predict"), (["predict", "dear"], "cheap")]:
        with pytest.raises(HostError, match=said):
            host_lms.assign_lms(program, [choice], named, "target")


def test_a_state_that_would_lose_its_lms_address_is_refused(tmp_path):
    program = dspy.ChainOfThought("question -> answer")
    program.predict.lm = own(api_base="http://own/v1")
    path = tmp_path / "state.json"
    program.save(path)
    with pytest.raises(HostError, match=r"`openai/own` of `predict`.*http://own/v1") as caught:
        host_lms.reject_lost_address(str(path))
    assert caught.value.kind == "state"
    program.predict.lm = own()
    program.save(path)
    host_lms.reject_lost_address(str(path))
    path.write_text(json.dumps(["no state"]))
    host_lms.reject_lost_address(str(path))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"model_type": "responses"}, {"path": "/v1/responses"}),
        ({"extra_body": {"top_k": 5}}, {"top_k": 5}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ({"extra_headers": {"X-Title": "app"}}, {"x-title": "app"}),
        ({"organization": "org"}, {"openai-organization": "org"}),
    ],
    ids=lambda value: next(iter(value)),
)
async def test_options_reach_the_provider(http: FakeExchangeHost, call, options, sent):
    if options.get("model_type") == "responses":
        text = {"type": "output_text", "text": "yes", "annotations": []}
        message = {"type": "message", "role": "assistant", "content": [text]}
        answer = {"id": "r", "object": "response", "status": "completed", "model": "m"}
        http.answer({**answer, "output": [message]})
    built = host_lms.build_lm(FakeLmHost(), {**HOST_LM, "options": options})
    await built.acall("a question")
    ((_, _, request),) = http.sent
    headers = {name.lower(): value for name, value in request.headers}
    path = request.url.removeprefix("http://host")
    found = {**headers, **json.loads(bytes(request.body)), "path": path}
    assert {name: found.get(name) for name in sent} == sent
