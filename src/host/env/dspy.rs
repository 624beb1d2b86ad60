//! The `dspy` of a venv: its version, read from files.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use super::{command, error::EnvError, linked::numbers, venv::Venv};

/// `DSPY_REQUIREMENT` in numbers.
const SUPPORTED: Range<[u32; 3]> = [3, 4, 0]..[3, 5, 0];

/// The version of the `dspy` that an import finds in these folders, if it is supported.
///
/// `base` are the folders of the Python that made the venv.
pub(super) fn check(
    folders: &[PathBuf],
    base: &[PathBuf],
    venv: &Venv,
    has_uv: bool,
) -> Result<String, EnvError> {
    let found = folders.iter().find_map(|folder| version_in(folder));
    let has_pip = folders.iter().any(|folder| folder.join("pip").is_dir());
    let command = command::install_dspy(venv.path(), has_pip, has_uv);
    let Some(found) = found else {
        let outside = base.iter().find(|folder| version_in(folder).is_some());
        return Err(EnvError::DspyMissing {
            venv: venv.clone(),
            outside: outside.cloned(),
            command,
        });
    };
    if numbers(&found).is_some_and(|version| SUPPORTED.contains(&version)) {
        Ok(found)
    } else {
        Err(EnvError::DspyUnsupported {
            venv: venv.clone(),
            found,
            command,
        })
    }
}

/// What the package says of itself, as an import does; else what the metadata of its installation
/// says. Interrupted installations leave metadata of other versions.
fn version_in(folder: &Path) -> Option<String> {
    stated(&folder.join("dspy")).or_else(|| recorded(folder))
}

/// `__version__` of the package's `__metadata__.py`.
fn stated(package: &Path) -> Option<String> {
    let text = fs::read_to_string(package.join("__metadata__.py")).ok()?;
    let version = text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "__version__").then(|| value.trim().trim_matches(['"', '\'']))
    })?;
    (!version.is_empty()).then(|| version.to_owned())
}

/// The newest version whose metadata is whole and fits what is in the folder: it lists the package
/// if that is there, and does not if it is kept elsewhere.
fn recorded(folder: &Path) -> Option<String> {
    let has_package = folder.join("dspy").join("__init__.py").is_file();
    let entries = fs::read_dir(folder).ok()?.flatten();
    let versions = entries.filter_map(|entry| {
        let name = entry.file_name();
        let version = name
            .to_str()?
            .strip_prefix("dspy-")?
            .strip_suffix(".dist-info")?;
        let record = fs::read_to_string(entry.path().join("RECORD")).ok()?;
        let lists_package = record
            .lines()
            .any(|line| line.starts_with("dspy/__init__.py,"));
        let is_whole = entry.path().join("METADATA").is_file();
        (is_whole && lists_package == has_package).then(|| version.to_owned())
    });
    versions.max_by_key(|version| numbers(version))
}
