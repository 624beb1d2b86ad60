"""Changes to libraries that programs use, made once when a host starts.

| file | what is changed | why |
|---|---|---|
| `lm15` | the two transports of DSPy's own client | its LM calls go through Rust |
| `httpx` | its two transports, within a call | so do litellm, embedders, SDKs |
| `lm` | `BaseLM`, `Embedder`, DSPy's retries | each LM call is a step, and the host retries |
| `selection` | backends, capabilities, plans, prices, adapters | computed once, not once a call |
| `hops` | `asyncio.to_thread`, for DSPy's own functions | they only compute, and run inline |
| `history` | `record_history`, `history` | a call sees its own, bounded, and no other's |
| `parallel` | `dspy.Parallel` and its kin | no progress bars, and failures name their causes |
| `signals` | `signal.signal` and the like, embedded | the process's handlers stay its own |
| `litellm` | its logging, its HTTP client | logging is work of no call; aiohttp is not carried |

`selection` and `hops` save more than half of a prediction's CPU time.

An embedded host installs `signals` before all others. None is undone: a process has one host, for
its life. Outside a call httpx is as it was, but for DSPy's own LM calls. The names of DSPy's that
the patches need are checked before any is replaced, see seam.py.
"""

from __future__ import annotations


def install() -> None:
    """Makes the changes."""
    from tower_dspy.patches import history, hops, httpx, litellm, lm, lm15, parallel, selection

    for patch in (lm15, httpx, litellm, lm, selection, hops, history, parallel):
        patch.install()
