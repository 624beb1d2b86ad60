//! The rows: `corpus/<family>.toml`, with their programs in `corpus/<family>.py`.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

/// Where the programs send their LM calls; replaced by the server's address for side and row.
pub(super) const ADDRESS: &str = "http://lm.test";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) name: String,
    /// An attribute of the family's module.
    pub(super) program: String,
    #[serde(default)]
    pub(super) inputs: Map<String, Value>,
    /// What the LM answers, in this order; after them, what completes the program.
    #[serde(default)]
    pub(super) replies: Vec<Reply>,
    /// The LM that the program is loaded with, where it has none itself.
    pub(super) lm: Option<RowLm>,
    /// A saved state: a file of the corpus.
    pub(super) state: Option<String>,
    /// The order of the requests is open.
    #[serde(default)]
    pub(super) concurrent: bool,
    /// Why the host has to differ from plain DSPy.
    pub(super) differs: Option<String>,
    #[serde(skip)]
    pub(super) family: String,
    /// The source of the family's module.
    #[serde(skip)]
    pub(super) source: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowLm {
    pub(super) model: String,
    pub(super) key: String,
    /// The path of the base URL.
    #[serde(default = "v1")]
    pub(super) path: String,
}

fn v1() -> String {
    "/v1".to_owned()
}

/// A reply, in the dialect and in the adapter's format that the request asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Reply {
    /// Only to a request that contains this.
    pub(super) when: Option<String>,
    /// Output fields. Fields that are not given are made up.
    pub(super) fields: Map<String, Value>,
    /// The answer as it is, whatever the adapter.
    pub(super) text: Option<String>,
    pub(super) reasoning: Option<String>,
    pub(super) tool_calls: Vec<ToolCall>,
    /// URLs that the answer cites.
    pub(super) citations: Vec<String>,
    pub(super) status: Option<u16>,
    pub(super) headers: BTreeMap<String, String>,
    /// The body as it is, whatever the dialect.
    pub(super) body: Option<String>,
    /// The connection breaks in the middle of the body.
    pub(super) cut: bool,
    /// The body is compressed, though nobody asked for it.
    pub(super) gzip: bool,
    /// Seconds before the answer.
    pub(super) delay: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolCall {
    pub(super) name: String,
    #[serde(default)]
    pub(super) args: Map<String, Value>,
}

#[derive(Deserialize)]
struct Family {
    row: Vec<Row>,
}

/// The folder of the corpus.
pub(super) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/same/corpus")
}

/// The rows whose family or name contains one of the words of `only`, which commas divide.
pub(super) fn read(only: &str) -> Vec<Row> {
    let mut files: Vec<_> = fs::read_dir(folder())
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    files.sort();
    let words: Vec<_> = only.split(',').map(str::trim).collect();
    let mut rows = Vec::new();
    for file in files {
        let family = file.file_stem().expect("a name").to_string_lossy();
        let source = fs::read_to_string(file.with_extension("py")).expect("the programs");
        let text = fs::read_to_string(&file).expect("the rows");
        let parsed: Family =
            toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for mut row in parsed.row {
            if words
                .iter()
                .any(|word| row.name.contains(word) || family.contains(word))
            {
                row.family = family.clone().into_owned();
                row.source = source.clone();
                rows.push(row);
            }
        }
    }
    assert_distinct(&rows);
    rows
}

fn assert_distinct(rows: &[Row]) {
    let mut names: Vec<_> = rows.iter().map(|row| &row.name).collect();
    names.sort();
    for pair in names.windows(2) {
        assert!(pair[0] != pair[1], "two rows are named `{}`", pair[0]);
    }
}
