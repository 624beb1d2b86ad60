//! Python's room, carried inside the binary.

/// The modules' names and files, as `import` is to find them.
macro_rules! modules {
    ($($name:literal: $file:literal,)*) => {
        &[$(($name, include_str!(concat!("../python/tower_dspy/", $file)))),*]
    };
}

/// Module name and source.
pub(super) const MODULES: &[(&str, &str)] = modules! {
    "tower_dspy": "__init__.py",
    "tower_dspy.children": "children.py",
    "tower_dspy.exchange": "exchange.py",
    "tower_dspy.executor": "executor.py",
    "tower_dspy.faults": "faults.py",
    "tower_dspy.forks": "forks.py",
    "tower_dspy.frames": "frames.py",
    "tower_dspy.gate": "gate.py",
    "tower_dspy.interrupt": "interrupt.py",
    "tower_dspy.json_types": "json_types.py",
    "tower_dspy.jsonable": "jsonable.py",
    "tower_dspy.lm": "lm.py",
    "tower_dspy.lm_call": "lm_call.py",
    "tower_dspy.local": "local.py",
    "tower_dspy.loop": "loop.py",
    "tower_dspy.pacing": "pacing.py",
    "tower_dspy.patches": "patches/__init__.py",
    "tower_dspy.patches.history": "patches/history.py",
    "tower_dspy.patches.hops": "patches/hops.py",
    "tower_dspy.patches.httpx": "patches/httpx.py",
    "tower_dspy.patches.litellm": "patches/litellm.py",
    "tower_dspy.patches.lm": "patches/lm.py",
    "tower_dspy.patches.lm15": "patches/lm15.py",
    "tower_dspy.patches.parallel": "patches/parallel.py",
    "tower_dspy.patches.replace": "patches/replace.py",
    "tower_dspy.patches.selection": "patches/selection.py",
    "tower_dspy.patches.signals": "patches/signals.py",
    "tower_dspy.pool": "pool.py",
    "tower_dspy.port": "port.py",
    "tower_dspy.program": "program.py",
    "tower_dspy.remote": "remote.py",
    "tower_dspy.runner": "runner.py",
    "tower_dspy.schema": "schema.py",
    "tower_dspy.scope": "scope.py",
    "tower_dspy.seam": "seam.py",
    "tower_dspy.settings": "settings.py",
    "tower_dspy.startup": "startup.py",
    "tower_dspy.system": "system.py",
    "tower_dspy.tails": "tails.py",
    "tower_dspy.threads": "threads.py",
    "tower_dspy.tool_call": "tool_call.py",
    "tower_dspy.toolbox": "toolbox.py",
    "tower_dspy.utf8": "utf8.py",
    "tower_dspy.watchdog": "watchdog.py",
    "tower_dspy.worker": "worker.py",
    "tower_dspy.zygote": "zygote.py",
};

/// Makes the modules importable; see bootstrap.py.
pub(super) const BOOTSTRAP: &str = include_str!("../python/tower_dspy/bootstrap.py");
