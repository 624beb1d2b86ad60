//! The programs as files that Python imports: a module for each row and side.

use std::{fs, path::Path};

use serde_json::Value;
use tempfile::TempDir;

use super::{Row, corpus, server::Server};

/// Each side, as in the paths of its requests.
const SIDES: [&str; 5] = ["plain-async", "plain-sync", "loop", "threads", "worker"];

#[derive(Debug)]
pub(super) struct Modules {
    folder: TempDir,
}

impl Modules {
    pub(super) fn write(rows: &[Row], server: &Server) -> Self {
        let folder = TempDir::new().expect("a folder");
        for row in rows {
            for side in SIDES {
                let address = address(server, side, row);
                let source = row.source.replace(corpus::ADDRESS, &address);
                let source = source + &BY_FORWARD.replace("PROGRAM", &row.program);
                let path = folder.path().join(format!("{}.py", name(side, row)));
                fs::write(path, source).expect("a module");
            }
        }
        Self { folder }
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// The name of a row's module.
pub(super) fn name(side: &str, row: &Row) -> String {
    format!("{}{}", prefix(side), row.name.replace(['-', '.'], "_"))
}

fn prefix(side: &str) -> String {
    format!("same_{}_", side.replace('-', "_"))
}

/// Where a row's LM is for a side.
pub(super) fn address(server: &Server, side: &str, row: &Row) -> String {
    format!("{}/{side}/{}", server.address(), row.name)
}

/// `value` with what is another text on each side, the module's name and the LM's address, put
/// into the same words.
pub(super) fn neutral(value: &Value, server: &Server, side: &str, row: &Row) -> Value {
    match value {
        Value::String(text) => text
            .replace(&address(server, side, row), corpus::ADDRESS)
            .replace(&prefix(side), "same_")
            .into(),
        Value::Array(items) => {
            let items = items.iter().map(|item| neutral(item, server, side, row));
            items.collect()
        }
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, field)| (name.clone(), neutral(field, server, side, row)));
            Value::Object(fields.collect())
        }
        value => value.clone(),
    }
}

/// Python that makes a sync program of one that has both forms: its class overrides `forward`.
const BY_FORWARD: &str = r#"

def same_by_forward():
    import functools

    import dspy

    program = PROGRAM
    if isinstance(program, type) and issubclass(program, dspy.Signature):
        program = dspy.Predict(program)
    elif not isinstance(program, dspy.Module):
        program = program()
    base = type(program)

    @functools.wraps(base.forward)
    def forward(self, *args, **kwargs):
        return base.forward(self, *args, **kwargs)

    program.__class__ = type(base)(base.__name__, (base,), {"forward": forward})
    return program
"#;
