"""litellm with its logging outside calls, and with httpx as its HTTP client.

After each LM call litellm logs, on an executor, by a task that lives as long as the loop, and by
tasks that outlive the call. As part of a call they would hold it up, or be left behind by it.
"""

import functools
import logging
import os
from types import ModuleType
from typing import Any

from tower_dspy.call_state import run_outside_calls
from tower_dspy.patches import embeddings
from tower_dspy.patches.replace import replace, when_imported

_log = logging.getLogger("tower_dspy.startup")

LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")


def install() -> None:
    """Installs the patch as soon as litellm is imported."""
    # Without it litellm uses aiohttp, which does not go through the host.
    os.environ["DISABLE_AIOHTTP_TRANSPORT"] = "True"
    # Without it the first call of an Anthropic model fetches a table from the network.
    os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
    when_imported("litellm", _replace)


def _replace(litellm: ModuleType) -> None:
    litellm.disable_aiohttp_transport = True
    try:
        _move_logging_outside_calls()
    except (ImportError, AttributeError) as error:
        _log.warning("this litellm's logging counts as work of the calls that it logs: %s", error)
    try:
        embeddings.install()
    except (ImportError, AttributeError) as error:
        _log.warning("this litellm's embeddings take three times the CPU time: %s", error)


def _move_logging_outside_calls() -> None:
    # Here, as litellm is imported by now.
    from litellm import _logging, utils
    from litellm.litellm_core_utils import logging_utils
    from litellm.litellm_core_utils.logging_worker import LoggingWorker
    from litellm.litellm_core_utils.thread_pool_executor import executor

    replace(LoggingWorker, "ensure_initialized_and_enqueue", _outside_calls)
    replace(LoggingWorker, "start", _outside_calls)
    replace(type(executor), "submit", _outside_calls)
    # The tasks of both are all of logging.
    for module in (utils, logging_utils):
        replace(module, "asyncio", _TasksOutsideCalls)
    for name in LOGGERS:
        logging.getLogger(name).removeHandler(_logging.handler)


def _outside_calls(method: Any) -> Any:
    @functools.wraps(method)
    def outside_calls(*args: Any, **kwargs: Any) -> Any:
        return run_outside_calls(method, *args, **kwargs)

    return outside_calls


class _TasksOutsideCalls:
    """The module `asyncio`, for modules of litellm, whose tasks are of no call."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self.create_task = _outside_calls(module.create_task)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)
