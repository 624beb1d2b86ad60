from __future__ import annotations

import copy

import dspy
import pytest

from tower_dspy import engine, lm
from tower_dspy.faults import HostError

HOST = {"id": 7, "model": "openai/host", "base_url": "http://host/v1"}


class FakePort:
    def __init__(self) -> None:
        self.adopted: list[tuple[str | None, ...]] = []

    def adopt_lm(self, *lm: str | None) -> int:
        self.adopted.append(lm)
        return 11


def own(model="openai/own", **kwargs) -> dspy.LM:
    kwargs = {"num_retries": 3, "cache": True, "api_key": "own-key", **kwargs}
    return dspy.LM(model, **kwargs)


def test_the_hosts_lm_neither_retries_nor_caches_and_has_a_placeholder():
    built = lm.build(FakePort(), {**HOST, "options": {"temperature": 0.5}})
    assert (built.num_retries, built.cache) == (0, False)
    assert built.kwargs["temperature"] == 0.5
    for side in (built._engine_spec, built._async_engine_spec):
        assert set(side.config.api_keys.values()) == {engine.PLACEHOLDER}
        assert set(side.config.base_urls.values()) == {"http://host/v1"}


def test_a_name_that_makes_no_lm_is_refused():
    with pytest.raises(HostError) as caught:
        lm.build(FakePort(), {**HOST, "model": ""})
    assert caught.value.kind == "lm"


def test_an_lm_of_a_predictors_own_is_taken_over():
    port, program = FakePort(), dspy.Predict("question -> answer")
    lm.rebind(port, program, [HOST])
    assert program.lm is None
    program.lm = own(temperature=0.25)
    lm.rebind(port, program, [HOST])
    taken = program.lm
    assert (taken.num_retries, taken.cache) == (0, False)
    assert (taken.model, taken.kwargs["temperature"]) == ("openai/own", 0.25)
    assert taken.kwargs.get("api_key") is None
    assert isinstance(taken.engine, engine.GatedEngine)
    assert port.adopted == []


def test_without_an_lm_of_the_hosts_its_address_and_key_move_to_the_host():
    port = FakePort()
    taken = lm.take_over(port, own(api_base="http://own/v1"), [], "it")
    assert port.adopted == [("openai/own", "http://own/v1", "own-key")]
    assert (taken.num_retries, taken.kwargs.get("api_base")) == (0, None)
    assert taken.kwargs.get("api_key") is None


@pytest.mark.parametrize(
    "lm_of_its_own",
    [own("anthropic/claude"), "openai/own", own(engine="litellm")],
    ids=["another provider", "no LM", "another client"],
)
def test_one_that_cannot_be_taken_over_is_refused_with_its_owner(lm_of_its_own):
    with pytest.raises(HostError, match="the predictor `x`") as caught:
        lm.take_over(FakePort(), lm_of_its_own, [HOST], "the predictor `x`")
    assert caught.value.kind == "own_lm"


def test_copies_of_a_program_share_the_engine_and_states_leave_it_out():
    program = dspy.ChainOfThought("question -> answer")
    program.set_lm(lm.build(FakePort(), HOST))
    copied = program.deepcopy()
    assert copied.predict.lm.engine is program.predict.lm.engine
    assert copy.deepcopy(program.predict.lm).engine is program.predict.lm.engine
    assert "http://host" not in str(program.dump_state())


def test_an_lm_of_its_own_gets_the_key_of_the_lm_that_is_most_like_it():
    hosts = [HOST, {"id": 8, "model": "openai/own"}, {"id": 9, "model": "anthropic/claude"}]
    for model, lm_id in [("openai/own", 8), ("openai/x", 7), ("anthropic/y", 9)]:
        taken = lm.take_over(FakePort(), own(model), hosts, "it")
        assert taken.engine.config.transport._lm_id == lm_id


def test_a_predictor_gets_the_lm_that_is_named_for_it():
    program = dspy.ChainOfThought("question -> answer")
    program.predict.lm = own("anthropic/claude")
    named = {"cheap": lm.build(FakePort(), HOST)}
    lm.give(program, [["predict", "cheap"]], named, "target")
    # It replaces an LM that could not be taken over, and stays as it is.
    lm.rebind(FakePort(), program, [HOST])
    assert program.predict.lm is named["cheap"]
    for choice, said in [(["other", "cheap"], "predict"), (["predict", "dear"], "cheap")]:
        with pytest.raises(HostError, match=said):
            lm.give(program, [choice], named, "target")
