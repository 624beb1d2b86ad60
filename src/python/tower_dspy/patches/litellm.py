"""litellm with its logging outside calls, and with httpx as its HTTP client.

After each LM call litellm logs, on an executor or by a task that lives as long as the loop. As part
of the first call it would hold that call up, and end with it.
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
    from litellm import _logging
    from litellm.litellm_core_utils.logging_worker import LoggingWorker
    from litellm.litellm_core_utils.thread_pool_executor import executor

    replace(LoggingWorker, "ensure_initialized_and_enqueue", _outside_calls)
    replace(LoggingWorker, "start", _outside_calls)
    replace(type(executor), "submit", _outside_calls)
    for name in LOGGERS:
        logging.getLogger(name).removeHandler(_logging.handler)


def _outside_calls(method: Any) -> Any:
    @functools.wraps(method)
    def outside_calls(*args: Any, **kwargs: Any) -> Any:
        return run_outside_calls(method, *args, **kwargs)

    return outside_calls
