"""Patches of the libraries that programs use. All patches of this package are here.

| file | patched | why | undone | cost |
|---|---|---|---|---|
| `lm15` | lm15's transports | DSPy's LM calls go through the host | no | none |
| `httpx` | httpx's transports | so do litellm's and SDKs' | outside calls | a check a request |
| `lm_hooks` | `BaseLM`, `Embedder`, retries | LM calls are counted | no | two hooks a call |
| `tools` | `dspy.Tool` | tool calls are recorded | no | two reports a call |
| `adapters` | `Adapter` | the text of an LM call has fields | no | four look-ups a call |
| `streaming` | engines, litellm, `TextDelta` | LM calls are streamed | no | a look-up a call |
| `failover` | `execute`, `LM.copy` | an LM of several answers by another | no | a look-up a call |
| `memoize` | routes, plans, prices, credentials | computed once | no | up to 256 values each |
| `to_thread` | `asyncio.to_thread` | DSPy's own functions run inline | no | a look-up a call |
| `history` | `record_history`, `history` | a call sees its own alone | no | 1000 entries a call |
| `parallel` | `dspy.Parallel`, tqdm's bars | no bars or second runs, causes | no | a list a run |
| `type_serializer` | `dspy.Type` | answers keep fields | outside answers | a variable read |
| `configure` | owner of `dspy.configure` | programs are isolated | while loading | none |
| `threads` | `Thread`, pools, anyio | threads belong to calls | outside calls | a future a thread |
| `sleep` | `time.sleep` | a signal ends it | outside calls | a look-up a sleep |
| `processes` | `Popen`, `Process` | processes belong to calls | outside calls | a pidfd each |
| `imports` | importlib | no import is cut short | no | two set operations an import |
| `log_records` | `Logger.callHandlers` | records have their call | no | a report a record |
| `litellm` | logging, HTTP client | its logging is of no call | no | a context a log record |
| `embeddings` | litellm's price and log, openai | vectors alone are read | no | two variables |
| `litellm_secrets` | `secret_managers` | a provider's key variables | after each look | none |
| `openai_retries` | `FinalRequestOptions` | its SDK repeats no LM call | no | a look-up a request |
| `opentelemetry` | spans of its SDK | a cancel is no error | outside calls | a check an error |
| `signals` | `signal`, `faulthandler` | the handlers stay | in forked children | none |

`memoize` and `to_thread` save more than half of a prediction's CPU time.

A patch that is not undone stays: a process has one host, for its life. `signals` is
installed by an embedded host alone, before all others; `threads` and `processes` with the loop, see
loop.py; `type_serializer` and `configure` by their use. compat.py checks that DSPy has the names
that the patches need before any is installed.
"""


def install() -> None:
    """Installs the patches of DSPy, httpx, litellm and importlib."""
    # Here, as they import DSPy, and as each of them imports this package.
    from tower_dspy.patches import (
        adapters,
        failover,
        history,
        httpx,
        imports,
        litellm,
        lm15,
        lm_hooks,
        memoize,
        openai_retries,
        opentelemetry,
        parallel,
        sleep,
        streaming,
        to_thread,
        tools,
    )

    for patch in (lm15, httpx, litellm, lm_hooks, adapters, streaming, memoize, to_thread):
        patch.install()
    for patch in (tools, failover, history, parallel, imports, openai_retries, opentelemetry):
        patch.install()
    sleep.install()
