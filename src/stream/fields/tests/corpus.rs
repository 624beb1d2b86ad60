//! Texts with the values that DSPy's adapters parse; `test_stream_corpus.py` holds those to DSPy.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::*;

#[derive(Deserialize)]
struct Row {
    name: String,
    format: Format,
    /// Names and types.
    fields: Vec<(String, String)>,
    text: String,
    /// What DSPy parses; `None` if it refuses the text.
    values: Option<Map<String, Value>>,
    /// Of fields whose deltas are not their value: what the deltas are.
    #[serde(default)]
    streamed: Sums,
}

impl Row {
    fn all() -> Vec<Self> {
        let rows: Vec<Self> = serde_json::from_str(include_str!("../corpus.json")).unwrap();
        assert!(rows.len() >= 60);
        rows
    }

    fn output_fields(&self) -> Vec<OutputField> {
        let field = |(name, r#type): &(String, String)| {
            OutputField::from((name.clone(), r#type == "str", true))
        };
        self.fields.iter().map(field).collect()
    }

    fn sums<'a>(&self, pieces: impl IntoIterator<Item = &'a str>) -> Sums {
        sums(self.format, &self.output_fields(), pieces)
    }
}

#[test]
fn the_deltas_of_a_field_add_up_to_what_dspy_parses() {
    for row in Row::all() {
        let Some(values) = &row.values else { continue };
        let sums = row.sums([row.text.as_str()]);
        for field in row.output_fields() {
            let sum = sums.get(&*field.name).map_or("", String::as_str);
            let value = values[&*field.name].as_str().filter(|_| field.is_text);
            let streamed = row.streamed.get(&*field.name).map(String::as_str);
            let expected = streamed.or(value).unwrap_or_default();
            assert_eq!(
                sum, expected,
                "{:?}: {}, {}",
                row.format, row.name, field.name
            );
            if streamed.is_some() {
                assert_ne!(
                    streamed, value,
                    "{:?}: {} streams its value",
                    row.format, row.name
                );
            }
        }
    }
}

#[test]
fn the_sums_do_not_depend_on_where_a_text_is_cut_in_two() {
    for row in Row::all() {
        let whole = row.sums([row.text.as_str()]);
        for (at, _) in row.text.char_indices() {
            let (before, after) = row.text.split_at(at);
            assert_eq!(
                row.sums([before, after]),
                whole,
                "{}, cut at {at}",
                row.name
            );
        }
    }
}

#[test]
fn the_sums_of_single_chars_are_those_of_the_whole_text() {
    for row in Row::all() {
        let whole = row.sums([row.text.as_str()]);
        assert_eq!(row.sums(cut(&row.text, &[1])), whole, "{}", row.name);
        assert_eq!(row.sums(cut(&row.text, &[4])), whole, "{}", row.name);
    }
}

proptest! {
    #[test]
    fn the_sums_do_not_depend_on_how_a_text_is_cut(lengths in lengths()) {
        for row in Row::all() {
            let whole = row.sums([row.text.as_str()]);
            prop_assert_eq!(row.sums(cut(&row.text, &lengths)), whole, "{}", row.name);
        }
    }
}
