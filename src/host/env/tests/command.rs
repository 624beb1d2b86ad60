use std::path::Path;

use crate::host::env::{base::Maker, command};

#[test]
fn uv_is_used_where_it_is_installed() {
    let maker = Maker {
        interpreter: "/usr/bin/python3".into(),
        has_uv: true,
    };
    let venv = Path::new("/srv/my app/.venv");
    let install = "uv pip install --python '/srv/my app/.venv' 'dspy>=3.4.0,<3.5'";
    assert_eq!(
        command::make(venv, &maker),
        format!("uv venv --python /usr/bin/python3 '/srv/my app/.venv' && {install}")
    );
    assert_eq!(
        command::remake(venv, &maker),
        format!("uv venv --python /usr/bin/python3 --clear '/srv/my app/.venv' && {install}")
    );
    assert_eq!(command::install_dspy(venv, false, true), install);
}
