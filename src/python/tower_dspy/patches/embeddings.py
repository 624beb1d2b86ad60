"""litellm's embeddings without what `dspy.Embedder` does not read.

An embedder reads the vectors and the tokens. For each embedding litellm also computes a price and a
log record with all numbers as text, and openai's client converts each number by a call of its own:
together two thirds of an embedding's time. Where a callback of litellm may read the price and the
record, they stay.
"""

import functools
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tower_dspy.patches.replace import replace

# What litellm has and what one embedding is passed, if something reads its log.
_READERS = (
    "callbacks",
    "input_callback",
    "success_callback",
    "failure_callback",
    "_async_input_callback",
    "_async_success_callback",
    "_async_failure_callback",
    "max_budget",
)
_READERS_OF_ONE = {*_READERS, "logger_fn", "litellm_logging_obj", "litellm_request_debug"}

# `typing`'s list is another one.
_FLOATS = (list[float], typing.List[float])  # noqa: UP006

_VECTORS_ONLY: ContextVar[bool] = ContextVar("tower_dspy_vectors_only", default=False)


def install() -> None:
    """Installs the patch, once litellm is imported; raises if it has other names."""
    # Here, as both are imported with litellm.
    from litellm import utils
    from litellm.litellm_core_utils.litellm_logging import Logging
    from openai import _models

    replace(utils, "update_response_metadata", _skipped)
    replace(Logging, "post_call", _skipped)
    replace(_models, "construct_type", _floats_at_once)


@contextmanager
def vectors_only(litellm: Any, options: dict[str, Any]) -> Iterator[None]:
    """Makes the block an embedding of which the vectors and the tokens alone are read."""
    if options.keys() & _READERS_OF_ONE or any(getattr(litellm, name, None) for name in _READERS):
        yield
        return
    # Here, as litellm is imported by now. Calls that litellm makes itself are not logged.
    from litellm._internal_context import is_internal_call

    tokens = [(variable, variable.set(True)) for variable in (_VECTORS_ONLY, is_internal_call)]
    try:
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


def _skipped(function: Any) -> Any:
    @functools.wraps(function)
    def skipped(*args: Any, **kwargs: Any) -> Any:
        return None if _VECTORS_ONLY.get() else function(*args, **kwargs)

    return skipped


def _floats_at_once(construct_type: Any) -> Any:
    @functools.wraps(construct_type)
    def construct(*, value: Any, type_: Any, metadata: Any = None) -> Any:
        # Each would be returned as it is.
        if type(value) is list and type_ in _FLOATS and set(map(type, value)) == {float}:
            return value.copy()
        return construct_type(value=value, type_=type_, metadata=metadata)

    return construct
