//! The table of providers in the docs.

use std::collections::BTreeSet;

use super::table::{Auth, PROVIDERS, Provider};

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) provider: &'static str,
    pub(super) example: &'static str,
    pub(super) client: &'static str,
    pub(super) dialect: &'static str,
    pub(super) address: &'static str,
    pub(super) key: &'static str,
}

impl Row {
    fn parse(line: &'static str) -> Option<Self> {
        let line = line.strip_prefix("| `")?;
        let mut cells = line.split(" | ");
        Some(Self {
            provider: cells.next()?.trim_end_matches('`'),
            example: cells.next()?.trim_matches('`'),
            client: cells.next()?,
            dialect: cells.next()?,
            address: cells.next()?,
            key: cells.next()?,
        })
    }

    /// The parts of the row that do not fit a provider of the tests.
    pub(super) fn differences(&self, provider: &Provider) -> Vec<&'static str> {
        let url = provider.url;
        let authority = url.split("://").nth(1).unwrap_or_default();
        let authority = authority.split('/').next().unwrap_or_default();
        // What the address of the tests' provider is made by.
        let by = match authority {
            "mine.openai.azure.com" => "AZURE_OPENAI_ENDPOINT",
            "aiplatform.googleapis.com" => "GOOGLE_CLOUD_LOCATION",
            // Any server with OpenAI's API has a row of the docs' text.
            "lm.test" if self.provider == "openai" => "api.openai.com",
            given if given.starts_with("lm.test") || given.ends_with(".azure.com") => "base_url",
            aws if aws.contains("us-east-1") => "AWS_REGION",
            public => public,
        };
        let key = match (provider.variable, provider.auth) {
            (Some(variable), _) => variable,
            (None, Auth::Keyless) => "none",
            (None, Auth::Signed | Auth::Google) => "the cloud's",
            (None, Auth::Bearer | Auth::Header(_)) => "",
        };
        let rest = self.example.strip_prefix(self.provider);
        let checks = [
            (
                "example",
                rest.is_some_and(|rest| rest.starts_with(['/', ':'])),
            ),
            ("address", has(self.address, by)),
            ("key", has(self.key, key)),
        ];
        let wrong = checks.into_iter().filter(|(_, fits)| !fits);
        wrong.map(|(name, _)| name).collect()
    }
}

/// Whether a cell has this text, as a whole where it is code.
fn has(cell: &str, text: &str) -> bool {
    cell.contains(&format!("`{text}`")) || (!text.contains(['.', '_']) && cell.contains(text))
}

/// The rows of the table.
pub(super) fn rows() -> Vec<Row> {
    let table = include_str!("../../../../src/lm/providers.md");
    table.lines().filter_map(Row::parse).collect()
}

/// The row of a provider.
pub(super) fn row_of(provider: &Provider) -> Row {
    let row = rows().into_iter().find(|row| row.provider == provider.row);
    row.unwrap_or_else(|| panic!("{} is not in the docs", provider.row))
}

#[test]
fn the_table_in_the_docs_has_the_providers_of_these_tests() {
    let documented: BTreeSet<_> = rows().iter().map(|row| row.provider).collect();
    let tried: BTreeSet<_> = PROVIDERS.iter().map(|provider| provider.row).collect();
    assert_eq!(documented, tried);
}

#[test]
fn the_addresses_and_the_variables_in_the_docs_are_those_of_these_tests() {
    for provider in &PROVIDERS {
        let row = row_of(provider);
        let wrong = row.differences(provider);
        assert!(wrong.is_empty(), "{wrong:?} of {row:?}: {provider:?}");
    }
}
