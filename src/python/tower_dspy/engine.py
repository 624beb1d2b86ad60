"""DSPy's engines over our transports, with a gate before each LM call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from dspy.clients.engines.lm15_engine import AsyncLM15Engine, LM15Engine
from dspy.lm15 import RouterConfig

from tower_dspy.forks import leave_if_child
from tower_dspy.gate import pass_or_raise
from tower_dspy.scope import Scope, current_scope
from tower_dspy.transport import AsyncTransport, SyncTransport, blocked

# What Python sends as the key; Rust puts the real one in its place.
PLACEHOLDER = "TOWER-DSPY-KEY"


def resolve(model: str) -> str:
    """The id of the provider that serves `model`, in DSPy's words."""
    return LM15Engine(RouterConfig(env={})).resolve(model).provider


def pair(port: Any, lm_id: int, model: str, base_url: str | None) -> dict[str, Any]:
    """The two engines of an LM, as keyword arguments of `dspy.LM`."""
    provider = resolve(model)

    def config(transport: Any) -> RouterConfig:
        return RouterConfig(
            transport=transport,
            env={},
            api_keys={provider: PLACEHOLDER},
            base_urls={provider: base_url} if base_url else None,
        )

    return {
        "engine": GatedEngine(config(SyncTransport(port, lm_id))),
        "async_engine": AsyncGatedEngine(config(AsyncTransport(port, lm_id))),
    }


def is_ours(lm: Any) -> bool:
    """Whether an LM's calls go through the host already."""
    return isinstance(getattr(lm, "engine", None), _Shared)


class _Shared:
    """An engine belongs to the host: copies of a program share it, and states leave it out."""

    def __deepcopy__(self, _: dict[int, Any]) -> Any:
        return self

    def dump_state(self) -> dict[str, Any]:
        return {}

    @classmethod
    def load_state(cls, _: dict[str, Any]) -> Any:
        raise ValueError("an engine of a host is not loaded from a state: load the program again")


class AsyncGatedEngine(_Shared, AsyncLM15Engine):
    """Lets no LM call of a cancelled call begin."""

    async def complete(self, request: Any) -> Any:
        await _gate()
        return await super().complete(request)

    async def stream(self, request: Any) -> AsyncIterator[Any]:
        await _gate()
        async for event in super().stream(request):
            yield event


class GatedEngine(_Shared, LM15Engine):
    """The same for threads."""

    def complete(self, request: Any) -> Any:
        pass_or_raise(current_scope())
        return super().complete(request)

    def stream(self, request: Any) -> Iterator[Any]:
        pass_or_raise(current_scope())
        yield from super().stream(request)


def is_of_host(lm: Any) -> bool:
    """Whether the calls of an LM go through the host."""
    return isinstance(getattr(lm, "engine", None), _Shared)


async def _gate() -> None:
    await pass_or_park(current_scope())


async def pass_or_park(scope: Scope | None) -> None:
    """Lets a task of a call that is not over pass; see transport.blocked for all others."""
    leave_if_child()
    if scope is not None and scope.is_over():
        await blocked(scope)
