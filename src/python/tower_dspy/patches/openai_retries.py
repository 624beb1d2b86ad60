"""OpenAI's SDK, by which litellm calls many providers, without retries of its own.

litellm asks it for two, whatever an LM says. The host's layers retry LM calls, within the deadline
and their budget. A program's own requests by the SDK keep its retries.
"""

import functools
from types import ModuleType
from typing import Any

from tower_dspy.lm_call import CURRENT_LM_CALL
from tower_dspy.patches.replace import replace, when_imported


def install() -> None:
    """Installs the patch as soon as the SDK is imported."""
    when_imported("openai._models", _replace)


def _replace(models: ModuleType) -> None:
    replace(models.FinalRequestOptions, "get_max_retries", _none_of_lm_calls)


def _none_of_lm_calls(get: Any) -> Any:
    @functools.wraps(get)
    def get_max_retries(*args: Any, **kwargs: Any) -> int:
        return get(*args, **kwargs) if CURRENT_LM_CALL.get() is None else 0

    return get_max_retries
