//! The check of which libpython the loader took.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use super::{error::EnvError, linked::LinkedPython};

/// Refuses a libpython that is not the one of the build, if that one is on this machine.
pub(in crate::host) fn check(linked: &LinkedPython) -> Result<(), EnvError> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let path = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let libdir = option_env!("TOWER_DSPY_BUILD_PYTHON_LIBDIR").unwrap_or_default();
    check_among(&maps, Path::new(libdir), &path, linked.short_version())
}

/// The same with the mappings of a process, and its `LD_LIBRARY_PATH`.
pub(super) fn check_among(
    maps: &str,
    libdir: &Path,
    library_path: &OsStr,
    version: &str,
) -> Result<(), EnvError> {
    let Some(loaded) = loaded(maps, version) else {
        // libpython is part of the program.
        return Ok(());
    };
    let meant = libdir.join(loaded.file_name().unwrap_or_default());
    let real = |path: &Path| fs::canonicalize(path).ok();
    // Where the one of the build is gone, the venv has to fit the one that is there.
    match real(&meant) {
        Some(ref same) if real(&loaded).as_ref() != Some(same) => {}
        _ => return Ok(()),
    }
    let named = env::split_paths(library_path)
        .any(|folder| real(&folder).is_some() && real(&folder).as_deref() == loaded.parent());
    let libdir = libdir.display();
    let remedy = if named {
        format!(
            "$LD_LIBRARY_PATH names its folder. Unset it, or put the other folder first: \
             LD_LIBRARY_PATH={libdir}:$LD_LIBRARY_PATH"
        )
    } else {
        format!(
            "The program has no run path to the folder of the other one, which only a direct \
             dependent of tower-dspy can set. Let the package of the program depend on tower-dspy \
             itself, with a build.rs:\n\n\
             fn main() {{\n    \
                 let libdir = std::env::var(\"DEP_TOWER_DSPY_PYTHON_LIBDIR\")\n        \
                     .expect(\"a direct dependency on tower-dspy, with feature `python`\");\n    \
                 println!(\"cargo::rustc-link-arg=-Wl,-rpath,{{libdir}}\");\n\
             }}\n\n\
             For a program that is built already: LD_LIBRARY_PATH={libdir}"
        )
    };
    Err(EnvError::OtherLibpython {
        loaded,
        meant,
        remedy,
    })
}

/// The libpython of this version among the mappings, with all links followed.
fn loaded(maps: &str, version: &str) -> Option<PathBuf> {
    let name = format!("libpython{version}");
    maps.lines().find_map(|line| {
        let path = Path::new(&line[line.find('/')?..]);
        let file = path.file_name()?.to_str()?;
        let rest = file.strip_prefix(&name)?;
        // `.so.1.0`, and `d.so.1.0` of a debug build.
        rest.trim_start_matches(['d', 't', 'm'])
            .starts_with(".so")
            .then(|| path.to_owned())
    })
}
