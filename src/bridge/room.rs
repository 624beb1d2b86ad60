//! Python's room, carried inside the binary.

use pyo3::{prelude::*, types::PyDict};

/// Module name and source, as `import` is to find them.
const MODULES: &[(&str, &str)] = &[
    (
        "tower_dspy",
        include_str!("../python/tower_dspy/__init__.py"),
    ),
    (
        "tower_dspy.engine",
        include_str!("../python/tower_dspy/engine.py"),
    ),
    (
        "tower_dspy.executor",
        include_str!("../python/tower_dspy/executor.py"),
    ),
    (
        "tower_dspy.faults",
        include_str!("../python/tower_dspy/faults.py"),
    ),
    (
        "tower_dspy.forks",
        include_str!("../python/tower_dspy/forks.py"),
    ),
    (
        "tower_dspy.gate",
        include_str!("../python/tower_dspy/gate.py"),
    ),
    (
        "tower_dspy.interrupt",
        include_str!("../python/tower_dspy/interrupt.py"),
    ),
    ("tower_dspy.lm", include_str!("../python/tower_dspy/lm.py")),
    (
        "tower_dspy.loop",
        include_str!("../python/tower_dspy/loop.py"),
    ),
    (
        "tower_dspy.pacing",
        include_str!("../python/tower_dspy/pacing.py"),
    ),
    (
        "tower_dspy.pool",
        include_str!("../python/tower_dspy/pool.py"),
    ),
    (
        "tower_dspy.program",
        include_str!("../python/tower_dspy/program.py"),
    ),
    (
        "tower_dspy.runner",
        include_str!("../python/tower_dspy/runner.py"),
    ),
    (
        "tower_dspy.schema",
        include_str!("../python/tower_dspy/schema.py"),
    ),
    (
        "tower_dspy.scope",
        include_str!("../python/tower_dspy/scope.py"),
    ),
    (
        "tower_dspy.seam",
        include_str!("../python/tower_dspy/seam.py"),
    ),
    (
        "tower_dspy.settings",
        include_str!("../python/tower_dspy/settings.py"),
    ),
    (
        "tower_dspy.steps",
        include_str!("../python/tower_dspy/steps.py"),
    ),
    (
        "tower_dspy.threads",
        include_str!("../python/tower_dspy/threads.py"),
    ),
    (
        "tower_dspy.toolbox",
        include_str!("../python/tower_dspy/toolbox.py"),
    ),
    (
        "tower_dspy.transport",
        include_str!("../python/tower_dspy/transport.py"),
    ),
    (
        "tower_dspy.watchdog",
        include_str!("../python/tower_dspy/watchdog.py"),
    ),
    (
        "tower_dspy.startup",
        include_str!("../python/tower_dspy/startup.py"),
    ),
];

/// Lets `import tower_dspy` find the sources in this binary, before any on the path.
pub(super) fn install(py: Python<'_>) -> PyResult<()> {
    let sources = PyDict::new(py);
    for (name, source) in MODULES {
        sources.set_item(*name, *source)?;
    }
    let bootstrap = PyModule::from_code(
        py,
        &std::ffi::CString::new(include_str!("../python/tower_dspy/bootstrap.py"))?,
        c"<tower-dspy>/tower_dspy/bootstrap.py",
        c"tower_dspy_bootstrap",
    )?;
    bootstrap.call_method1("install", (sources,))?;
    Ok(())
}
