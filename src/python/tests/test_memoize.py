"""What is kept of DSPy's choices for an LM, and what asks for a new one."""

import inspect
import json

import dspy
import pytest
from dspy.adapters import utils
from dspy.clients import backend_selection, capabilities
from dspy.clients.engines.lm15_engine import _Routing
from fakes import FakeCall, FakeExchangeHost

from tower_dspy.patches import memoize


def lm(model: str = "openai/gpt-4o-mini", **options) -> dspy.LM:
    return dspy.LM(model, **{"api_key": "k", "api_base": "http://own/v1", **options})


@pytest.mark.parametrize(
    ("its_lm", "options"),
    [
        (lm(), {}),
        (lm(), {"timeout": 3}),
        (lm(), {"extra_headers": {"x": "y"}}),
        (lm(), {"extra_headers": {"x": "z"}}),
        (lm(extra_headers={"x": "y"}), {}),
        (lm("mistral/m"), {}),
        (lm("anthropic/claude"), {}),
        (lm(model_type="responses"), {}),
        (lm(model_type="text"), {}),
        (lm(engine="litellm"), {}),
        (lm(timeout=object()), {}),
    ],
)
def test_backends_by_memoized_routes_are_those_of_dspy(its_lm, options, monkeypatch):
    def chosen(choose):
        try:
            return choose(its_lm, options)
        except Exception as error:
            return type(error), str(error)

    with monkeypatch.context() as patched:
        for owner, name in ((backend_selection, "LM15Engine"), (_Routing, "resolve")):
            patched.setattr(owner, name, inspect.unwrap(getattr(owner, name)))
        expected = chosen(backend_selection.select_backend)
    assert chosen(backend_selection.select_backend) == expected
    assert chosen(backend_selection.select_backend) == expected


def test_a_base_url_in_the_environment_takes_effect_at_once(monkeypatch):
    its_lm = lm()
    assert backend_selection.select_backend(its_lm).native
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gateway")
    assert not backend_selection.select_backend(its_lm).native
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert backend_selection.select_backend(its_lm).native


def test_a_memo_is_bounded(monkeypatch):
    monkeypatch.setattr(memoize, "_MOST", 2)
    kept, made = memoize._Memo(), []
    for key in (1, 2, 3, 1, 3):
        kept.get(key, lambda key=key: made.append(key))
    assert made == [1, 2, 3, 1]


def test_an_option_that_dspys_own_client_cannot_build_takes_litellm_for_its_request_alone(
    http: FakeExchangeHost, call: FakeCall
):
    its_lm = lm("hosted_vllm/m", cache=False)
    its_lm("a question")
    its_lm("a question", chat_template_kwargs={"enable_thinking": False})
    its_lm("a question")
    bodies = [json.loads(bytes(request.body)) for _, _, request in http.sent]
    assert ["chat_template_kwargs" in body for body in bodies] == [False, True, False]


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "anthropic/claude", "gemini/gemini-x"])
def test_memoized_capabilities_are_those_of_dspy(model):
    its_lm = lm(model)
    find = inspect.unwrap(capabilities._capabilities)
    for _ in range(2):
        assert capabilities._capabilities(its_lm) == find(its_lm)


def test_only_adapters_of_classes_are_memoized():
    assert utils.TypeAdapter(str) is utils.TypeAdapter(str)
    assert utils.TypeAdapter(int | str) is not utils.TypeAdapter(str | int)
    assert utils.TypeAdapter(list[int]) is not utils.TypeAdapter(list[int])
