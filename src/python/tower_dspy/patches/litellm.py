"""litellm's own threads and tasks, which are work of no call, and its HTTP client.

After each LM call litellm logs, on an executor or by a task that lives as long as the loop. As part
of the call that happened to come first it would hold the call up, and end with it.
"""

from __future__ import annotations

import functools
import os
from types import ModuleType
from typing import Any

from tower_dspy.patches.replace import replace, when_imported
from tower_dspy.scope import outside


def install() -> None:
    """Makes the changes as soon as litellm is imported."""
    # Else it asks by aiohttp, which is not carried.
    os.environ["DISABLE_AIOHTTP_TRANSPORT"] = "True"
    when_imported("litellm", _replace)


def _replace(litellm: ModuleType) -> None:
    from litellm.litellm_core_utils.logging_worker import LoggingWorker
    from litellm.litellm_core_utils.thread_pool_executor import executor

    litellm.disable_aiohttp_transport = True
    replace(LoggingWorker, "ensure_initialized_and_enqueue", _outside)
    replace(LoggingWorker, "start", _outside)
    replace(type(executor), "submit", _outside)


def _outside(method: Any) -> Any:
    @functools.wraps(method)
    def of_no_call(*args: Any, **kwargs: Any) -> Any:
        return outside(method, *args, **kwargs)

    return of_no_call
