//! Python's source files, inside the binary.

/// The names of the modules, as `import` finds them, and their sources.
macro_rules! modules {
    ([$($name:ident)*] patches: [$($patch:ident)*]) => {
        &[
            ("tower_dspy", include_str!("../python/tower_dspy/__init__.py")),
            ("tower_dspy.patches", include_str!("../python/tower_dspy/patches/__init__.py")),
            $(modules!("tower_dspy.", "../python/tower_dspy/", $name),)*
            $(modules!("tower_dspy.patches.", "../python/tower_dspy/patches/", $patch),)*
        ]
    };
    ($package:literal, $folder:literal, $name:ident) => {
        (
            concat!($package, stringify!($name)),
            include_str!(concat!($folder, stringify!($name), ".py")),
        )
    };
}

/// Module name and source.
pub(super) const MODULES: &[(&str, &str)] = modules! {
    [
        adapter_call advice api blocked_thread call_process call_state call_stream call_work checkpoint
        child_processes compat dry_run error_frames exchange executor faults fork_guard frames host_lms
        host_proxy host_tools interrupt json_types jsonable lm_address lm_call lm_group lm_members
        lm_race load_steps loads local_call loop packages payload pool predictors prices
        process_limits process_tree program provider_names proxies reachable runner schema search_path
        start_limit startup targets
        thread_signal tool_events trace_context wait_end warmup watchdog worker zygote
    ]
    patches: [
        adapters configure embeddings failover history httpx imports litellm litellm_secrets lm15
        lm_hooks log_records memoize openai_retries opentelemetry parallel processes replace
        signals sleep streaming threads to_thread tools type_serializer
    ]
};

/// Makes the modules importable; see bootstrap.py.
pub(super) const BOOTSTRAP: &str = include_str!("../python/tower_dspy/bootstrap.py");
