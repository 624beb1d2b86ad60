//! The commands that error messages tell the reader to run, with real paths.
//!
//! They use uv where it is installed, which takes seconds where pip takes minutes.

use std::path::{Path, PathBuf};

use super::{
    base::Maker,
    requirements::DSPY_REQUIREMENT,
    venv::{IN_PROGRESS, INSTALLED},
};

/// Makes the venv and installs DSPy.
pub(super) fn make(venv: &Path, maker: &Maker) -> String {
    with_dspy(venv, maker, "")
}

/// Empties the venv first: what was made by another Python is of no use to this one.
pub(super) fn remake(venv: &Path, maker: &Maker) -> String {
    with_dspy(venv, maker, " --clear")
}

/// Installs DSPy into a venv that is otherwise fine. Some makers of venvs leave pip out.
pub(super) fn install_dspy(venv: &Path, has_pip: bool, has_uv: bool) -> String {
    if has_uv {
        return format!(
            "uv pip install --python {} '{DSPY_REQUIREMENT}'",
            quote(venv)
        );
    }
    let python = quote(&python(venv));
    let ensure_pip = if has_pip {
        String::new()
    } else {
        format!("{python} -m ensurepip && ")
    };
    format!("{ensure_pip}{python} -m pip install '{DSPY_REQUIREMENT}'")
}

/// The second half of a creation, by hand: the last word is what marks the venv as finished.
pub(super) fn install_lock(venv: &Path) -> String {
    let (part, installed) = (venv.join(IN_PROGRESS), venv.join(INSTALLED));
    format!(
        "{} -m pip install --require-hashes -r {part} && mv {part} {}",
        quote(&python(venv)),
        quote(&installed),
        part = quote(&part),
    )
}

/// Both halves of a creation, by hand.
pub(super) fn make_and_install_lock(venv: &Path, interpreter: &Path) -> String {
    format!(
        "{} -m venv {} && {}",
        quote(interpreter),
        quote(venv),
        install_lock(venv)
    )
}

/// Where not even a thread could be had, so that nothing is known of the Python.
pub(super) fn by_hand(venv: &Path) -> String {
    let maker = Maker {
        interpreter: "python3".into(),
        has_uv: false,
    };
    make(venv, &maker)
}

/// Moves what is in the way aside: it is not ours to delete.
pub(super) fn replace(path: &Path, maker: &Maker) -> String {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".old");
    format!(
        "mv {} {} && {}",
        quote(path),
        quote(Path::new(&aside)),
        make(path, maker)
    )
}

fn with_dspy(venv: &Path, maker: &Maker, clear: &str) -> String {
    let (interpreter, path) = (quote(&maker.interpreter), quote(venv));
    let make = if maker.has_uv {
        format!("uv venv --python {interpreter}{clear} {path}")
    } else {
        format!("{interpreter} -m venv{clear} {path}")
    };
    format!("{make} && {}", install_dspy(venv, true, maker.has_uv))
}

fn python(venv: &Path) -> PathBuf {
    venv.join("bin").join("python")
}

/// Quotes a path for a shell, only where it has to be.
pub(super) fn quote(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
