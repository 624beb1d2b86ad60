"""litellm's own threads and tasks, which are work of no call, its HTTP client and its messages.

After each LM call litellm logs, on an executor or by a task that lives as long as the loop. As part
of the call that happened to come first it would hold the call up, and end with it. What it would
write to stderr goes to the host's log, as DSPy's messages do.
"""

from __future__ import annotations

import functools
import logging
import os
from types import ModuleType
from typing import Any

from tower_dspy.patches.replace import replace, when_imported
from tower_dspy.scope import outside

_log = logging.getLogger("tower_dspy.startup")

LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")


def install() -> None:
    """Makes the changes as soon as litellm is imported."""
    # Else it asks by aiohttp, which is not carried.
    os.environ["DISABLE_AIOHTTP_TRANSPORT"] = "True"
    # Else the first call of an Anthropic model fetches a table from the network, and waits for it.
    os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
    when_imported("litellm", _replace)


def _replace(litellm: ModuleType) -> None:
    litellm.disable_aiohttp_transport = True
    try:
        _set_logging_apart()
    except (ImportError, AttributeError) as error:
        _log.warning("this litellm's logging counts as work of the calls that it logs: %s", error)


def _set_logging_apart() -> None:
    from litellm import _logging
    from litellm.litellm_core_utils.logging_worker import LoggingWorker
    from litellm.litellm_core_utils.thread_pool_executor import executor

    replace(LoggingWorker, "ensure_initialized_and_enqueue", _outside)
    replace(LoggingWorker, "start", _outside)
    replace(type(executor), "submit", _outside)
    for name in LOGGERS:
        logging.getLogger(name).removeHandler(_logging.handler)


def _outside(method: Any) -> Any:
    @functools.wraps(method)
    def of_no_call(*args: Any, **kwargs: Any) -> Any:
        return outside(method, *args, **kwargs)

    return of_no_call
