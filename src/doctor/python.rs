//! The checks of Python, the venv, DSPy and the start of the host.

use serde::Deserialize;
use serde_json::json;

use super::check::Check;
use crate::host::{
    Host,
    core::health::Health,
    env::{DSPY_REQUIREMENT, EnvError, LinkedPython, PythonEnv, blocking},
    start_error::StartError,
};

const ABOUT: &str = include_str!("../python/doctor.py");

/// What the running interpreter says of itself: see `python/doctor.py`.
#[derive(Debug, Deserialize)]
pub(super) struct About {
    python: String,
    dspy: String,
    dspy_file: String,
    prefix: String,
    path: Vec<String>,
    /// Files that hide a module or package of the same name.
    hiding: Vec<String>,
    /// Why the system calls of threads cannot be read.
    proc_error: Option<String>,
}

impl About {
    pub(super) async fn of(host: &Host) -> Result<Self, String> {
        let about = host.function("about", Some(ABOUT)).await;
        let about = about.map_err(|error| error.to_string())?;
        let about = about.call(json!({})).await;
        let about = about.map_err(|error| error.to_string())?;
        serde_json::from_value(about).map_err(|error| error.to_string())
    }
}

/// The checks that a failed start has come to: those before it in the order were all right.
pub(super) fn of_failed_start(error: &StartError) -> Vec<Check> {
    let name = match error {
        StartError::Env(
            EnvError::NoBuildPython
            | EnvError::NoPython { .. }
            | EnvError::OtherLibpython { .. }
            | EnvError::PythonHome { .. }
            | EnvError::PythonTooOld { .. },
        ) => "Python",
        StartError::Env(EnvError::DspyMissing { .. } | EnvError::DspyUnsupported { .. }) => "DSPy",
        StartError::Env(_) => "venv",
        _ => "host",
    };
    let mut checks = vec![Check::wrong(name, error)];
    if name != "host" {
        checks.push(Check::skipped("host", format_args!("it needs {name}")));
    }
    checks
}

/// The venv that the interpreter runs in, by its files.
pub(super) async fn venv_of(about: &About) -> Result<PythonEnv, EnvError> {
    let prefix = about.prefix.clone();
    blocking(move || PythonEnv::find_standalone(Some(prefix.as_ref()))).await
}

/// The checks of a host that has started. `linked` is the Python of the build, where the host runs in
/// this process.
pub(super) fn of_running(
    host: &Host,
    about: &About,
    venv: Result<PythonEnv, EnvError>,
    linked: Option<&LinkedPython>,
) -> Vec<Check> {
    let venv = match venv {
        Ok(env) => {
            let of_patch = of_another_patch(env.python_version(), &about.python);
            Check::ok("venv", format_args!("{}{of_patch}", about.prefix))
        }
        Err(error) => Check::wrong("venv", error),
    };
    let host_check = match host.health() {
        // A machine that is busy with the start is late for a moment.
        Health::Ready | Health::Saturated => Check::ok("host", "it has started, and answers"),
        health => Check::warning(
            "host",
            format_args!("its health is {health:?}: programs hold it up. Start it anew"),
        ),
    };
    vec![
        running_python(about, linked),
        venv,
        running_dspy(about, host.dspy_version()),
        host_check,
    ]
}

fn running_python(about: &About, linked: Option<&LinkedPython>) -> Check {
    match linked {
        Some(linked) if feature(linked.version()) != feature(&about.python) => Check::wrong(
            "Python",
            format_args!(
                "this program was built with Python {} of `{}`, and runs Python {}: the loader took \
                 another libpython. Unset LD_LIBRARY_PATH and PYTHONHOME, or build again with that \
                 Python: PYO3_PYTHON=/path/to/python cargo build",
                linked.version(),
                linked.base_prefix().display(),
                about.python,
            ),
        ),
        Some(linked) => Check::ok(
            "Python",
            format_args!("{}, in {}", about.python, linked.base_prefix().display()),
        ),
        None => Check::ok("Python", format_args!("{}, of the venv", about.python)),
    }
}

/// `expected` is the version in the venv's files.
fn running_dspy(about: &About, expected: &str) -> Check {
    if about.dspy == expected {
        return Check::ok("DSPy", format_args!("{expected}, of {DSPY_REQUIREMENT}"));
    }
    Check::wrong(
        "DSPy",
        format_args!(
            "`{}` was imported, which is {}, and the venv has {expected}: a folder before the venv \
             in Python's path has another DSPy. Take it out of PYTHONPATH and `python_path`",
            about.dspy_file, about.dspy,
        ),
    )
}

/// The checks of what may become a problem of programs in a host that runs.
pub(super) fn of_programs_folders(about: &About) -> Vec<Check> {
    let modules = match &about.hiding[..] {
        [] => Check::ok(
            "modules",
            format_args!("programs are looked for in {}", folders(&about.path)),
        ),
        hiding => Check::warning(
            "modules",
            format_args!(
                "{}: imported in place of the module or package of the same name, in all programs. \
                 Rename it, or take its folder out of `python_path` and PYTHONPATH",
                quoted(hiding)
            ),
        ),
    };
    let proc = match &about.proc_error {
        None => Check::ok(
            "/proc",
            "threads that wait for sockets can be ended with their call",
        ),
        Some(error) => Check::warning(
            "/proc",
            format_args!(
                "it shows no system calls of threads ({error}): a sync program that waits for a \
                 socket goes on after its call was stopped, until the wait ends. Allow it in the \
                 container (the seccomp profile, or kernel.yama.ptrace_scope of the node), or use \
                 async programs",
            ),
        ),
    };
    vec![modules, proc]
}

/// The folders at the begin of Python's path, before its own.
fn folders(path: &[String]) -> String {
    let path: Vec<_> = path
        .iter()
        .filter(|folder| !folder.contains("/lib/python"))
        .collect();
    let path: Vec<_> = path
        .into_iter()
        .filter(|folder| !folder.ends_with(".zip"))
        .collect();
    match &path[..] {
        [] => "the venv alone; `python_path` adds a folder".into(),
        path => format!("{}, and the venv", quoted(path)),
    }
}

fn quoted(paths: &[impl AsRef<str>]) -> String {
    let paths = paths.iter().map(|path| format!("`{}`", path.as_ref()));
    paths.collect::<Vec<_>>().join(", ")
}

/// A Python's version without its patch release, which fits all others of the same.
fn feature(version: &str) -> Option<(&str, &str)> {
    let (major, rest) = version.split_once('.')?;
    Some((major, rest.split('.').next()?))
}

/// A note on something made by Python `made` that runs on `runs`.
fn of_another_patch(made: &str, runs: &str) -> String {
    // Some makers of venvs write `3.11.7.final.0`.
    if made.split('.').take(3).eq(runs.split('.').take(3)) {
        return String::new();
    }
    format!(" (made by Python {made}, runs on {runs}: patch releases of one version fit)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckOutcome::{Ok as Well, Skipped, Warning, Wrong};

    fn about() -> About {
        About {
            python: "3.11.7".into(),
            dspy: "3.4.1".into(),
            dspy_file: "/venv/lib/python3.11/site-packages/dspy/__init__.py".into(),
            prefix: "/venv".into(),
            path: vec!["/app/programs".into(), "/usr/lib/python3.11".into()],
            hiding: Vec::new(),
            proc_error: None,
        }
    }

    #[test]
    fn patch_releases_are_of_one_version_and_the_difference_is_noted() {
        assert_eq!(feature("3.11.6"), feature("3.11.7.final.0"));
        assert_ne!(feature("3.11.6"), feature("3.12.6"));
        assert_ne!(feature("3.1.16"), feature("3.11.6"));
        assert_eq!(of_another_patch("3.11.7.final.0", "3.11.7"), "");
        let note = of_another_patch("3.11.6", "3.11.7");
        assert!(note.contains("3.11.6") && note.contains("3.11.7"), "{note}");
    }

    #[test]
    fn a_failed_start_is_wrong_where_it_failed_and_the_host_is_skipped() {
        let outcomes = |error: StartError| -> Vec<_> {
            let checks = of_failed_start(&error);
            checks
                .iter()
                .map(|check| (check.name(), check.outcome()))
                .collect()
        };
        assert_eq!(
            outcomes(EnvError::NoBuildPython.into()),
            [("Python", Wrong), ("host", Skipped)]
        );
        let missing = EnvError::NotFound {
            searched: "/app".into(),
            command: "python3 -m venv".into(),
        };
        assert_eq!(
            outcomes(missing.into()),
            [("venv", Wrong), ("host", Skipped)]
        );
        assert_eq!(outcomes(StartError::Another), [("host", Wrong)]);
        let other = EnvError::OtherLibpython {
            loaded: "/usr/lib/libpython3.11.so".into(),
            meant: "/opt/python/lib/libpython3.11.so".into(),
            remedy: "Unset LD_LIBRARY_PATH".into(),
        };
        let elsewhere = EnvError::PythonHome {
            home: "/usr".into(),
            linked: "/opt/python".into(),
        };
        for error in [other, elsewhere] {
            assert_eq!(
                outcomes(error.into()),
                [("Python", Wrong), ("host", Skipped)]
            );
        }
    }

    #[test]
    fn another_libpython_and_another_dspy_than_those_of_the_files_are_wrong() {
        let linked = |version| LinkedPython::new(version, "/opt/python");
        let check = |version| running_python(&about(), Some(&linked(version)));
        assert_eq!(check("3.11.2").outcome(), Well);
        let other = check("3.12.1");
        assert_eq!(other.outcome(), Wrong);
        assert!(other.text().contains("LD_LIBRARY_PATH"), "{other}");
        assert_eq!(running_python(&about(), None).outcome(), Well);

        assert_eq!(running_dspy(&about(), "3.4.1").outcome(), Well);
        let other = running_dspy(&about(), "3.4.0");
        assert_eq!(other.outcome(), Wrong);
        assert!(other.text().contains("/venv/lib"), "{other}");
    }

    #[test]
    fn folders_of_programs_are_named_and_those_of_python_are_not() {
        let checks = of_programs_folders(&about());
        assert_eq!(checks[0].outcome(), Well);
        assert!(
            checks[0].text().contains("`/app/programs`"),
            "{}",
            checks[0]
        );
        assert!(!checks[0].text().contains("/usr/lib"), "{}", checks[0]);
        assert_eq!(checks[1].outcome(), Well);
    }

    #[test]
    fn a_hidden_module_and_an_unreadable_proc_are_warnings() {
        let about = About {
            hiding: vec!["/app/programs/openai.py".into()],
            proc_error: Some("Permission denied".into()),
            ..about()
        };
        let checks = of_programs_folders(&about);
        for (check, part) in checks.iter().zip(["openai.py", "Permission denied"]) {
            assert_eq!(check.outcome(), Warning);
            assert!(check.text().contains(part), "{check}");
        }
    }
}
