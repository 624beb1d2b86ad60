"""The compatibility check of DSPy: the private names that this package needs of it."""

import pkgutil
import re

from tower_dspy.patches import to_thread

# As in pyproject.toml.
MADE_FOR = "dspy>=3.4.0,<3.5"
_FROM, _TO = (3, 4, 0), (3, 5)

# Names by their module. Without them LM calls would fail, or bypass the host unnoticed. The
# modules in patches/ use them; the two routers make the transports.
_REQUIRED = {
    "dspy": "Adapter.__call__ Adapter._call_postprocess Adapter._call_preprocess Adapter.acall "
    "BaseLM.__call__ BaseLM.acall ChatAdapter.parse Embedder.acall JSONAdapter.parse "
    "LM._warn_zero_temp_rollout LM.engine Reasoning Tool.__call__ Tool.acall TwoStepAdapter "
    "XMLAdapter.parse",
    "dspy._vendor.lm15.cloud.chains": "credential_provider",
    "dspy._vendor.lm15.providers.async_base": "StdlibAsyncTransport",
    "dspy._vendor.lm15.providers.base": "HttpResponse StdlibTransport",
    "dspy._vendor.lm15.providers.openai_chat": "OpenAIChatLM.parse_response",
    "dspy._vendor.lm15.registry": "PROVIDERS lookup",
    "dspy._vendor.lm15.result": "StreamAccumulator.push StreamAccumulator.response",
    "dspy._vendor.lm15.router": "AsyncLMRouter._shared_transport LMRouter._shared_transport",
    "dspy._vendor.lm15.transports": "AsyncTransportResponse.aiter_lines ConnectError "
    "ConnectTimeout ProtocolError ReadError ReadTimeout StdlibAsyncTransport.stream "
    "StdlibTransport.stream TransportError TransportRequest TransportResponse WriteError",
    "dspy._vendor.lm15.types": "TextDelta.__post_init__",
    "dspy.adapters.types.base_type": "Type.serialize_model",
    "dspy.adapters.utils": "TypeAdapter",
    "dspy.clients._litellm": "get_litellm",
    "dspy.clients.backend_selection": "BackendSelection CLIENT_KEYS LM15Engine select_backend",
    "dspy.clients.base_lm": "GLOBAL_HISTORY pretty_print_history record_history",
    "dspy.clients.capabilities": "_capabilities model_info resolve",
    "dspy.clients.costs": "model_info",
    "dspy.clients.embedding": "_acompute_embeddings _cached_acompute_embeddings "
    "_cached_compute_embeddings _compute_embeddings _get_litellm np",
    "dspy.clients.engines.lifecycle": "aclosing_stream closing_stream",
    "dspy.clients.engines.lm15_engine": "AsyncLM15Engine.complete LM15Engine.complete "
    "_Routing._target _Routing.plan _Routing.resolve",
    "dspy.clients.engines.stream_guard": "achecked_stream checked_stream",
    "dspy.clients.execution": "_partial _retryable aexecute execute finalize prepare",
    "dspy.clients.call_context": "stream_emitted",
    "dspy.clients.lm": "_get_stream_completion_fn",
    "dspy.clients.model_metadata": "rate",
    "dspy.clients.typesafe": "TypeSafe record_history",
    "dspy.dsp.utils.settings": "config_owner_async_task config_owner_thread_id "
    "main_thread_config thread_local_overrides",
    "dspy.lm15": "StreamAssemblyError _binding_for",
    "dspy.streaming": "StatusMessageProvider",
    "dspy.utils.exceptions": "LMError",
    "dspy.utils.parallelizer": "ParallelExecutor.execute",
}


def check(version: str) -> list[str]:
    """Raises if this DSPy cannot be used; returns warnings of what works less well with it."""
    missing = [
        f"{module}.{name}"
        for module, names in _REQUIRED.items()
        for name in names.split()
        if not _has(module, name)
    ]
    if missing:
        raise RuntimeError(
            f"DSPy {version} lacks {', '.join(missing)}, which its LM calls need to go through "
            f"the host; install a version that this crate was made for: pip install '{MADE_FOR}'"
        )
    warnings = []
    if not _FROM <= _numbers(version) < _TO:
        warnings.append(
            f"DSPy {version} is not a version that this crate was made for; install one: "
            f"pip install '{MADE_FOR}'"
        )
    slow = to_thread.inline_functions()[1]
    if slow:
        warnings.append(
            f"DSPy {version} lacks {', '.join(slow)}: LM calls wait for a thread in between, so "
            "each is slower, and waits for functions that block all threads"
        )
    return warnings


def _has(module: str, name: str) -> bool:
    try:
        pkgutil.resolve_name(f"{module}:{name}")
    except (ImportError, AttributeError):
        return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, so that `3.4.1rc2` counts as 3.4.1."""
    return tuple(int(number) for number in re.match(r"[\d.]*", version)[0].split(".") if number)
