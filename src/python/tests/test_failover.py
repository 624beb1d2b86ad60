"""LMs that are made of several: the requests of their members, and which failures are mended."""

import copy
import json
import warnings
from typing import Any

import dspy
import pytest
from conftest import ask, ask_sync, chat, in_call
from dspy.lm15 import Message, Request
from fakes import FakeCall, FakeExchangeHost, FakeLmHost

from tower_dspy import exchange, host_lms
from tower_dspy.lm_group import group_of, single_configs

pytestmark = pytest.mark.asyncio

JSON = [("content-type", "application/json")]
ANSWER = ("full", 200, JSON, json.dumps(chat("[[ ## answer ## ]]\nyes")).encode())


def member(number: int, model: str, **options: Any) -> dict[str, Any]:
    url = f"http://{number}/v1"
    return {"id": number, "model": model, "base_url": url, "keyed": True, "options": options}


def fallback(*members: dict[str, Any], share: float | None = None) -> dspy.LM:
    return host_lms.build_lm(FakeLmHost(), {"members": list(members), "share": share})


FIRST = member(1, "openai/first", temperature=0.5)
SECOND = member(2, "groq/second", max_tokens=77)


def answer(status: int, body: Any) -> tuple[Any, ...]:
    return ("full", status, JSON, json.dumps(body).encode())


class MembersHost(FakeExchangeHost):
    """A host whose LMs answer each with its own event, by their numbers."""

    def __init__(self, **events: tuple[Any, ...]) -> None:
        super().__init__()
        self._answers = {name.removeprefix("lm"): event for name, event in events.items()}
        exchange.connect(self)

    def open(self, route: Any, *request: Any) -> Any:
        self.events = (self._answers.get(str(route[0][0]), ANSWER),)
        return super().open(route, *request)

    @property
    def asked(self) -> list[int]:
        return [route[0][0] for route, _, _ in self.sent]

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.body) for _, _, request in self.sent]


BUSY = answer(503, {"error": {"message": "busy"}})


async def both(lm: dspy.LM) -> None:
    """Asks in async code and in sync code."""
    assert (await ask(lm)).answer == "yes"
    assert ask_sync(lm).answer == "yes"


async def test_the_request_of_a_member_has_its_lm_its_model_and_its_options(call: FakeCall):
    host = MembersHost(lm1=BUSY)
    await both(fallback(FIRST, SECOND))
    assert host.asked == [1, 2, 1, 2]
    assert [route[1] for route, _, _ in host.sent[:2]] == ["openai/first", "groq/second"]
    first, second = host.bodies[:2]
    assert (first["temperature"], first["model"]) == (0.5, "first")
    assert "temperature" not in second and second["model"] == "second"
    for number, (_, _, request) in enumerate(host.sent[:2], 1):
        assert f"Bearer TOWER-DSPY-KEY-{number}" in dict(request.headers).values()
    # The exchange of the member that answered.
    assert call.named("stepped") == [(2, (3, 5, 8)), (4, (3, 5, 8))]


async def test_options_of_a_copy_and_of_the_call_go_along_and_connections_do_not(call: FakeCall):
    host = MembersHost(lm1=BUSY)
    lm = fallback(FIRST, SECOND).copy(temperature=0.9, seed=5)
    await lm.acall("?", top_p=0.25, api_key="key-of-the-first")
    lm("?", top_p=0.25, api_key="key-of-the-first")
    for _, _, request in host.sent[1::2]:
        assert "key-of-the-first" not in str(request.headers)
    for body in host.bodies[1::2]:
        assert (body["temperature"], body["seed"], body["top_p"]) == (0.9, 5, 0.25)
    assert [entry["model"] for entry in lm.history] == ["groq/second"] * 2


async def test_options_of_a_copy_go_along_where_the_first_member_has_the_same(call: FakeCall):
    host = MembersHost(lm1=BUSY)
    first, second = member(1, "openai/a", temperature=1.0), member(2, "groq/b", temperature=0.0)
    # As BestOfN copies it.
    copied = fallback(first, second, share=0.5).copy(rollout_id=1, temperature=1.0).copy(seed=3)
    await copied.acall("?")
    copy.deepcopy(copied)("?")
    assert [body["temperature"] for body in host.bodies] == [1.0] * 4
    assert [body["seed"] for body in host.bodies] == [3] * 4


async def test_dspy_warns_once_of_a_member_whose_rollouts_are_all_the_same(call: FakeCall):
    MembersHost(lm1=BUSY)
    second = member(2, "groq/b", temperature=0.0)
    lm = fallback(member(1, "openai/a", temperature=1.0), second).copy(rollout_id=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            await lm.acall("?")
            lm("?")
    assert [str(one.message).partition(" ")[0] for one in caught] == ["rollout_id"]


async def test_an_option_that_a_copy_removes_is_removed_of_each_member(call: FakeCall):
    host = MembersHost(lm1=BUSY)
    first, second = member(1, "openai/a"), member(2, "groq/b", temperature=0.0, seed=4)
    inner = {"members": [first, second], "share": None}
    lm = fallback(inner, member(3, "openai/c")).copy(temperature=None, callbacks=[])
    await lm.acall("?")
    assert host.asked == [1, 2]
    assert "temperature" not in host.bodies[1] and host.bodies[1]["seed"] == 4


async def test_the_first_member_is_asked_as_the_programs_copy_says(call: FakeCall):
    host = MembersHost()
    lm = fallback(FIRST, SECOND).copy(model_type="text", timeout=9)
    await lm.acall("?")
    lm("?")
    assert [request.url for _, _, request in host.sent] == ["http://1/v1/completions"] * 2
    assert [timeout for _, timeout, _ in host.sent] == [9, 9]


async def test_a_copy_of_another_model_is_that_model_alone(call: FakeCall):
    host = MembersHost(lm1=BUSY)
    lm = fallback(FIRST, SECOND).copy(model="openai/other")
    with pytest.raises(dspy.LMError):
        await lm.acall("?")
    assert host.asked == [1]


async def test_a_request_of_lm15_is_made_for_the_member(call: FakeCall):
    host = MembersHost(lm1=BUSY)
    lm = fallback(FIRST, SECOND)
    request = Request(model=lm.model, messages=(Message.user("?"),))
    assert (await lm.acall(request=request)).model == "m"
    assert lm(request=request).model == "m"
    assert [body["model"] for body in host.bodies] == ["first", "second"] * 2


@pytest.mark.parametrize(
    ("event", "is_mended"),
    [
        *((("failed", kind, "m"), True) for kind in ("connect", "read", "read_timeout")),
        *((("failed", kind, "m"), True) for kind in ("connect_timeout", "protocol", "overloaded")),
        *((("failed", kind, "m"), False) for kind in ("other", "deadline", "over_budget")),
        *((answer(status, {"error": {"message": "m"}}), True) for status in (402, 408, 429)),
        *((answer(status, {"error": {"message": "m"}}), True) for status in (500, 503, 529)),
        *((answer(status, {"error": {"message": "m"}}), False) for status in (400, 401, 403, 404)),
        (answer(429, {"error": {"message": "m", "code": "insufficient_quota"}}), True),
        (("full", 200, JSON, b"<html>"), True),
    ],
)
@pytest.mark.parametrize("by_litellm", [False, True])
async def test_which_failures_another_member_mends(
    call: FakeCall, event: tuple[Any, ...], is_mended: bool, by_litellm: bool
):
    host = MembersHost(lm1=event)
    options = {"custom_llm_provider": "openai"} if by_litellm else {}
    lm = fallback(member(1, "openai/first", **options), SECOND)
    for asks in (lm.acall, lm):
        host.sent.clear()
        try:
            asked = asks("?")
            if asks is not lm:
                await asked
        except dspy.LMError:
            assert not is_mended
        else:
            assert is_mended
        assert host.asked == ([1, 2] if is_mended else [1])


async def test_the_last_failure_names_those_before_it(call: FakeCall):
    broken = answer(500, {"error": {"message": "broken"}})
    MembersHost(lm1=BUSY, lm2=broken, lm3=broken)
    lm = fallback(FIRST, SECOND, member(3, "openai/third"))
    with pytest.raises(dspy.LMError) as raised:
        await lm.acall("?")
    assert raised.value.status == 500
    message = str(raised.value)
    assert message.count("before it failed") == 1
    assert "`openai/first`: LMServerError" in message and "`groq/second`" in message


@pytest.mark.parametrize(
    ("share", "expected"), [(None, [20, 30, None]), (0.25, [15, 15, None]), (0.9, [54, 54, None])]
)
async def test_a_member_but_the_last_has_a_share_of_the_time_left(
    share: float | None, expected: list[float | None]
):
    host = MembersHost(lm1=BUSY, lm2=BUSY)
    with in_call(FakeCall(), remaining=60):
        await both(fallback(FIRST, SECOND, member(3, "openai/third"), share=share))
    limits = host.first_content
    assert limits == [limit and pytest.approx(limit, abs=2) for limit in expected * 2]


async def test_without_a_deadline_a_member_has_its_own_limits_alone(call: FakeCall):
    host = MembersHost(lm1=BUSY)
    await both(fallback(FIRST, SECOND, share=0.5))
    assert host.first_content == [None] * 4


async def test_the_share_of_a_group_within_a_group_is_within_that_of_the_group():
    host = MembersHost(lm1=BUSY, lm2=BUSY)
    inner = {"members": [FIRST, SECOND], "share": None}
    with in_call(FakeCall(), remaining=80):
        await both(fallback(inner, member(3, "openai/third")))
    # The pair has half of the time, and its first a half of that.
    expected = [20, 40, None] * 2
    assert host.first_content == [limit and pytest.approx(limit, abs=2) for limit in expected]


async def test_the_first_candidate_of_several_ends_the_share():
    host = MembersHost()
    with in_call(FakeCall(), remaining=60):
        await fallback(FIRST, SECOND).acall("?", n=2)
    assert host.asked == [1, 1]
    assert host.first_content == [pytest.approx(30, abs=2), None]


async def test_a_group_is_kept_by_copies_and_its_lms_are_known():
    lm = fallback(FIRST, SECOND)
    for copied in (copy.deepcopy(lm), copy.copy(lm), lm.copy(seed=1)):
        assert copied is not lm and group_of(copied) is group_of(lm)
    assert host_lms.host_ids(lm, lm.copy(temperature=1)) == (1, 2)
    inner = {"members": [FIRST, SECOND]}
    assert list(single_configs({"members": [inner, SECOND]})) == [FIRST, SECOND, SECOND]
