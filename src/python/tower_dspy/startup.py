"""What must be so before the first program is loaded."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from typing import Any


def before_import() -> None:
    """Settings that DSPy and its libraries read when they are imported."""
    # Importing asyncio installs Python's handler for SIGINT; Rust owns that signal here.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Without it litellm, once imported, asks the network for prices, and hangs where there is none.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def import_dspy(log: Any) -> list[str]:
    """Imports DSPy, quiet and without its cache on disk; returns what is weaker with this one."""
    import dspy

    from tower_dspy import patches, seam
    from tower_dspy.patches import litellm

    weaker = seam.check(dspy.__version__)

    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    dspy.disable_logging()
    # Also what asyncio says of a failure that nobody took: it holds what the program was asked.
    for name in ("dspy", "tower_dspy", "asyncio", "concurrent.futures", *litellm.LOGGERS):
        logger = logging.getLogger(name)
        logger.addHandler(_ToRust(log))
        logger.propagate = False
    patches.install()
    lock_progress_bars()
    return weaker


def lock_progress_bars() -> None:
    """Gives tqdm, and with it `dspy.Parallel`, a lock that an ended thread gives back.

    Its own is taken and given back by Python code, and the first use makes it: a thread that is
    ended in there would keep it, and every later `dspy.Parallel` of the process wait for ever.
    """
    import tqdm

    tqdm.tqdm.set_lock(threading.RLock())


async def warm() -> None:
    """One prediction on a canned answer, so that the first real one pays for no lazy import.

    It shows as well that LM calls of DSPy's own client are made where this package looks out for
    them. httpx and litellm are not tried: they are imported when they are needed.
    """
    import dspy

    from tower_dspy import exchange
    from tower_dspy.scope import Scope
    from tower_dspy.seam import Probe

    probe = Probe(_ANSWER)
    exchange.connect(probe)
    lm = dspy.LM("openai/warm-up", api_key="unused", engine="lm15", num_retries=0, cache=False)
    scope = Scope(0, probe, None)
    with dspy.context(lm=lm, trace=None, tower_dspy_scope=scope):
        await dspy.Predict("question -> answer").acall(question="")
    probe.confirm()


def warm_alone() -> None:
    """The same on a loop of its own, of which neither a thread nor a descriptor is left."""
    import asyncio

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as own:
        own.run(warm())


# CPython's defaults up to 3.12 and from 3.13 on. A collector that is incremental, which 3.14 began
# with, has others.
_GENERATIONS = ((700, 10, 10), (2000, 10, 10))


def calm_gc() -> None:
    """Takes what was imported out of the collector's sight, and lets it run less often.

    Each collection would go through all of DSPy's modules, which are never garbage; with the
    default thresholds that took a fifth of the loop's time. Thresholds that somebody has changed
    are left alone.
    """
    gc.collect()
    gc.freeze()
    if gc.get_threshold() in _GENERATIONS:
        gc.set_threshold(10_000, 20, 20)


_ANSWER = (
    b'{"id":"1","object":"chat.completion","model":"warm-up","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"[[ ## answer ## ]]\\nyes\\n\\n[[ ## completed ## ]]"},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)


class _ToRust(logging.Handler):
    """Hands log records to the host, which decides where they go: they may hold prompts."""

    def __init__(self, log: Any) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._log(record.levelno, record.name, self.format(record))
        except Exception:
            self.handleError(record)
