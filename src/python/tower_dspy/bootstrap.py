"""The importer of this package from the sources in the Rust binary.

The floors of the package, from the top down. A module imports from lower floors alone:

    worker_main
    zygote
    worker
    host_proxy, startup, watchdog
    __init__, patches, runner
    loads, patches.adapters, patches.failover, patches.streaming
    program
    lm_race
    adapter_call, loop, tool_events, warmup
    call_stream, host_tools, patches.httpx, patches.lm15, patches.lm_hooks
    patches.processes, patches.threads
    call_process, exchange, executor, lm_members, local_call
    checkpoint, frames, patches.imports, patches.log_records, patches.opentelemetry, pool, proxies
    api, compat, interrupt, patches.history, patches.litellm, patches.tools, schema
    wait_end
    patches.sleep
    thread_signal
    call_state, host_lms, json_types, jsonable, packages
    lm_address, lm_group, patches.embeddings, patches.memoize, patches.openai_retries
    patches.parallel, patches.to_thread, prices, targets, trace_context
    provider_names
    blocked_thread, call_work, child_processes, error_frames, faults, fork_guard, lm_call, payload
    predictors, process_limits, process_tree, search_path, start_limit
    advice, bootstrap, dry_run, load_steps, patches.configure, patches.litellm_secrets
    patches.replace, patches.signals, patches.type_serializer, reachable

An import inside a function is of a library that may not be installed or not be imported yet, or of
a module that imports one.
"""

import sys
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from typing import Any


class _Embedded(MetaPathFinder, InspectLoader):
    """A finder and loader of modules in a dict of sources, whose lines tracebacks show."""

    def __init__(self, sources: dict[str, str]) -> None:
        self._sources = sources

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        if name not in self._sources:
            return None
        return spec_from_loader(name, self, origin=self._origin(name))

    def get_source(self, name: str) -> str:
        return self._sources[name]

    def get_code(self, name: str) -> Any:
        return compile(self._sources[name], self._origin(name), "exec", dont_inherit=True)

    def is_package(self, name: str) -> bool:
        return any(known.startswith(f"{name}.") for known in self._sources)

    def _origin(self, name: str) -> str:
        path = name.replace(".", "/")
        return f"<tower-dspy>/{path}{'/__init__' if self.is_package(name) else ''}.py"


def install(sources: dict[str, str]) -> None:
    """Makes the sources importable, before a package of the same name on the path."""
    sys.meta_path.insert(0, _Embedded(sources))
