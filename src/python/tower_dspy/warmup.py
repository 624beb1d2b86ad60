"""A prediction on a canned answer, which warms DSPy up and checks that LM calls reach the patches.

The first real prediction then pays for no lazy import. httpx and litellm are not tried: they are
imported on first use.
"""

import asyncio
from typing import Any

import dspy

from tower_dspy import exchange
from tower_dspy.call_state import CallState
from tower_dspy.compat import MADE_FOR

_ANSWER = (
    b'{"id":"1","object":"chat.completion","model":"warm-up","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"[[ ## answer ## ]]\\nyes\\n\\n[[ ## completed ## ]]"},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)


async def warm() -> None:
    """Makes the prediction; raises if its LM call bypasses the patches."""
    probe = Probe(_ANSWER)
    exchange.connect(probe)
    lm = dspy.LM("openai/warm-up", api_key="unused", engine="lm15", num_retries=0, cache=False)
    state = CallState(0, probe, None)
    with dspy.context(lm=lm, trace=None, tower_dspy_call=state):
        await dspy.Predict("question -> answer").acall(question="")
    probe.confirm()


def warm_alone() -> None:
    """Makes the prediction on a loop of its own, which leaves no thread and no descriptor."""
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as own:
        own.run(warm())


class Probe:
    """A host with one call, which counts the requests and the LM calls of the prediction."""

    number = 0

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._requests = self._lm_calls = 0

    def open(self, *request: Any) -> "Probe":
        *_, deliver, _ = request
        self._requests += 1
        deliver(("full", 200, [("content-type", "application/json")], self._answer))
        return self

    def abort(self) -> None:
        pass

    def is_over(self) -> bool:
        return False

    def bypassed(self, _: str) -> None:
        pass

    def stepped(self, *_: Any) -> None:
        self._lm_calls += 1

    def confirm(self) -> None:
        """Raises unless the patches saw the request and the answer of one LM call."""
        if (self._requests, self._lm_calls) != (1, 1):
            raise RuntimeError(
                "this DSPy's predictors ask their LMs in another way than through "
                "`dspy.BaseLM.acall` and lm15's transports, where a call that has ended is "
                f"stopped; install a version that this crate was made for: pip install '{MADE_FOR}'"
            )
