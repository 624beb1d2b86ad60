//! Python's source files, inside the binary.

/// The modules' names and files, as `import` is to find them.
macro_rules! modules {
    ($($name:literal: $file:literal,)*) => {
        &[$(($name, include_str!(concat!("../python/tower_dspy/", $file)))),*]
    };
}

/// Module name and source.
pub(super) const MODULES: &[(&str, &str)] = modules! {
    "tower_dspy": "__init__.py",
    "tower_dspy.api": "api.py",
    "tower_dspy.call_state": "call_state.py",
    "tower_dspy.checkpoint": "checkpoint.py",
    "tower_dspy.child_processes": "child_processes.py",
    "tower_dspy.compat": "compat.py",
    "tower_dspy.exchange": "exchange.py",
    "tower_dspy.executor": "executor.py",
    "tower_dspy.faults": "faults.py",
    "tower_dspy.fork_guard": "fork_guard.py",
    "tower_dspy.frames": "frames.py",
    "tower_dspy.host_lms": "host_lms.py",
    "tower_dspy.host_proxy": "host_proxy.py",
    "tower_dspy.host_tools": "host_tools.py",
    "tower_dspy.interrupt": "interrupt.py",
    "tower_dspy.json_types": "json_types.py",
    "tower_dspy.jsonable": "jsonable.py",
    "tower_dspy.lm_call": "lm_call.py",
    "tower_dspy.local_call": "local_call.py",
    "tower_dspy.loop": "loop.py",
    "tower_dspy.patches": "patches/__init__.py",
    "tower_dspy.patches.configure": "patches/configure.py",
    "tower_dspy.patches.history": "patches/history.py",
    "tower_dspy.patches.httpx": "patches/httpx.py",
    "tower_dspy.patches.imports": "patches/imports.py",
    "tower_dspy.patches.litellm": "patches/litellm.py",
    "tower_dspy.patches.lm15": "patches/lm15.py",
    "tower_dspy.patches.lm_hooks": "patches/lm_hooks.py",
    "tower_dspy.patches.memoize": "patches/memoize.py",
    "tower_dspy.patches.parallel": "patches/parallel.py",
    "tower_dspy.patches.replace": "patches/replace.py",
    "tower_dspy.patches.signals": "patches/signals.py",
    "tower_dspy.patches.threads": "patches/threads.py",
    "tower_dspy.patches.to_thread": "patches/to_thread.py",
    "tower_dspy.patches.type_serializer": "patches/type_serializer.py",
    "tower_dspy.payload": "payload.py",
    "tower_dspy.pool": "pool.py",
    "tower_dspy.process_limits": "process_limits.py",
    "tower_dspy.program": "program.py",
    "tower_dspy.proxies": "proxies.py",
    "tower_dspy.runner": "runner.py",
    "tower_dspy.schema": "schema.py",
    "tower_dspy.start_limit": "start_limit.py",
    "tower_dspy.startup": "startup.py",
    "tower_dspy.tools": "tools.py",
    "tower_dspy.utf8": "utf8.py",
    "tower_dspy.warmup": "warmup.py",
    "tower_dspy.watchdog": "watchdog.py",
    "tower_dspy.worker": "worker.py",
    "tower_dspy.zygote": "zygote.py",
};

/// Makes the modules importable; see bootstrap.py.
pub(super) const BOOTSTRAP: &str = include_str!("../python/tower_dspy/bootstrap.py");
