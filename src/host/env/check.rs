//! The check of a venv, by its files, with no interpreter started.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    base::{Base, BasePython},
    command, dspy,
    error::EnvError,
    linked::{LinkedPython, numbers},
    not_a_venv,
    python_env::PythonEnv,
    venv::{CONFIG, IN_PROGRESS, INSTALLED, Venv},
};

pub(super) fn check(venv: &Venv, base: &Base) -> Result<PythonEnv, EnvError> {
    let path = venv.path();
    if path.join(IN_PROGRESS).exists() {
        return Err(EnvError::Unfinished {
            venv: venv.clone(),
            command: command::remake(path, &base.maker()),
        });
    }
    if let BasePython::Linked(linked) = &base.python {
        linked.require_supported()?;
    }
    let config = Config::read(venv, base)?;
    let linked = &match &base.python {
        BasePython::Linked(linked) => linked.clone(),
        BasePython::Any(_) => config.python(venv, base)?,
    };
    // Patch releases of one Python fit each other.
    let feature = |version| numbers(version).map(|[major, minor, _]| (major, minor));
    if feature(&config.version) != feature(linked.version()) {
        return Err(EnvError::OtherVersion {
            venv: venv.clone(),
            found: config.version,
            linked: linked.version().to_owned(),
            command: command::remake(path, &base.maker()),
        });
    }
    let is_linked = matches!(base.python, BasePython::Linked(_));
    if is_linked && !is_home_of(&config.home, linked) {
        return Err(EnvError::OtherInstallation {
            venv: venv.clone(),
            home: config.home,
            linked: linked.base_prefix().to_owned(),
            command: command::remake(path, &base.maker()),
        });
    }

    let python = path.join("bin").join("python");
    if !python.exists() {
        return Err(EnvError::NoInterpreter {
            venv: venv.clone(),
            python,
            command: command::remake(path, &base.maker()),
        });
    }

    let lib = format!("lib/python{}", linked.short_version());
    let site_packages = path.join(&lib).join("site-packages");
    let prefix = linked.base_prefix();
    let base_folders = [
        prefix.join("local").join(&lib).join("dist-packages"),
        prefix.join("lib/python3/dist-packages"),
        prefix.join(&lib).join("site-packages"),
    ];
    let mut folders = vec![site_packages.clone()];
    if config.system_packages {
        folders.extend_from_slice(&base_folders);
    }
    let dspy_version = dspy::check(&folders, &base_folders, venv, base.uv.is_some())?;
    Ok(PythonEnv {
        prefix: path.to_owned(),
        python,
        site_packages,
        python_version: config.version,
        dspy_version,
    })
}

/// Whether the venv at `path` was made by [`PythonEnv::create`], finished or not.
pub(super) fn is_ours(path: &Path) -> bool {
    path.join(IN_PROGRESS).exists() || path.join(INSTALLED).exists()
}

/// What `pyvenv.cfg` says.
struct Config {
    home: PathBuf,
    version: String,
    system_packages: bool,
}

impl Config {
    fn read(venv: &Venv, base: &Base) -> Result<Self, EnvError> {
        let path = venv.path();
        let not_a_venv = |(reason, remedy): (&str, String)| EnvError::NotAVenv {
            venv: venv.clone(),
            reason: reason.to_owned(),
            remedy,
        };
        // Through links: a link to nothing is as good as nothing.
        if !path.exists() {
            return Err(EnvError::Missing {
                venv: venv.clone(),
                relative_to: venv.relative_to(),
                command: command::make(path, &base.maker()),
            });
        }
        if !path.is_dir() {
            return Err(not_a_venv(not_a_venv::explain(path, &base.maker())));
        }
        let file = path.join(CONFIG);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(not_a_venv(not_a_venv::explain(path, &base.maker())));
            }
            Err(source) => {
                return Err(EnvError::Io {
                    action: "read",
                    path: file,
                    source,
                    command: command::remake(path, &base.maker()),
                });
            }
        };

        let value = |names: &[&str]| {
            text.lines().find_map(|line| {
                let (name, value) = line.split_once('=')?;
                let named = names.iter().any(|n| name.trim().eq_ignore_ascii_case(n));
                named.then(|| value.trim().to_owned())
            })
        };
        let (Some(home), Some(version)) = (value(&["home"]), value(&["version", "version_info"]))
        else {
            return Err(not_a_venv((
                "its pyvenv.cfg does not say which Python made it",
                not_a_venv::put_in_its_place(path, &base.maker()),
            )));
        };
        Ok(Self {
            home: home.into(),
            version,
            system_packages: value(&["include-system-site-packages"])
                .is_some_and(|value| value.eq_ignore_ascii_case("true")),
        })
    }

    /// The Python that made the venv, if worker processes can run it.
    fn python(&self, venv: &Venv, base: &Base) -> Result<LinkedPython, EnvError> {
        let prefix = self.home.parent().unwrap_or(&self.home);
        let python = LinkedPython::new(&self.version, prefix);
        if python.require_supported().is_ok() {
            return Ok(python);
        }
        // One to make it again with.
        base.python(venv)?;
        Err(EnvError::VenvTooOld {
            venv: venv.clone(),
            found: self.version.clone(),
            command: command::remake(venv.path(), &base.maker()),
        })
    }
}

/// Whether a venv's `home` is the linked installation.
///
/// One installation has many names: on Debian `/bin` is a link to `/usr/bin`, and other systems
/// have a folder of links to the interpreters of several. So the folders are compared with all
/// links followed, and then the interpreters in them.
fn is_home_of(home: &Path, linked: &LinkedPython) -> bool {
    let real = |path: &Path| fs::canonicalize(path).ok();
    let bin = linked.base_prefix().join("bin");
    if real(home).is_some_and(|home| Some(home) == real(&bin)) {
        return true;
    }
    let name = format!("python{}", linked.short_version());
    let Some(ours) = real(&bin.join(&name)).or_else(|| real(linked.interpreter())) else {
        return false;
    };
    [name.as_str(), "python3", "python"]
        .iter()
        .any(|name| real(&home.join(name)).as_ref() == Some(&ours))
}
