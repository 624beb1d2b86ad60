//! Hostile texts in the adapters' own forms.

use super::{
    super::field_text::is_space,
    reference::{chat, write_chat, write_json, write_xml},
    *,
};

const NAMES: [&str; 2] = ["reasoning", "answer"];

fn texts() -> impl Strategy<Value = [(&'static str, String); 2]> {
    [hostile_text(), hostile_text()]
        .prop_map(|[reasoning, answer]| [("reasoning", reasoning), ("answer", answer)])
}

fn sums_in_pieces(format: Format, text: &str, lengths: &[usize]) -> Sums {
    sums(format, &text_fields(&NAMES), cut(text, lengths))
}

/// The texts as sums, of which empty ones have none.
fn expected(texts: &[(&str, String)], value: impl Fn(&str) -> String) -> Sums {
    let sums = texts
        .iter()
        .map(|(name, text)| (name.to_string(), value(text)));
    sums.filter(|(_, text)| !text.is_empty()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_sections_of_a_chat_add_up(texts in texts(), lengths in lengths()) {
        let written = write_chat(&texts);
        prop_assert_eq!(sums_in_pieces(Format::Chat, &written, &lengths), chat(&written, &NAMES));
    }

    #[test]
    fn any_text_as_a_chat_adds_up(text in hostile_text(), lengths in lengths()) {
        prop_assert_eq!(sums_in_pieces(Format::Chat, &text, &lengths), chat(&text, &NAMES));
        let text = format!("[[ ## answer ## ]]{text}");
        prop_assert_eq!(sums_in_pieces(Format::Chat, &text, &lengths), chat(&text, &NAMES));
    }

    #[test]
    fn the_strings_of_an_object_add_up(
        texts in texts(),
        lengths in lengths(),
        escapes in prop::collection::vec(any::<bool>(), 1..8),
        is_fenced in any::<bool>(),
    ) {
        let mut written = write_json(&texts, &escapes);
        let values: Sums = serde_json::from_str(&written).unwrap();
        if is_fenced {
            written = format!("```json\n{written}\n```");
        }
        let expected = expected(&texts, str::to_owned);
        prop_assert!(expected.iter().all(|(name, text)| values[name] == *text));
        prop_assert_eq!(sums_in_pieces(Format::Json, &written, &lengths), expected);
    }

    #[test]
    fn the_texts_of_elements_add_up(texts in texts(), lengths in lengths()) {
        // Control characters are no XML.
        let texts = texts.map(|(name, text)| {
            (name, text.replace(|char| char < ' ' && !"\t\n\r".contains(char), ""))
        });
        let written = write_xml(&texts);
        let value = |text: &str| {
            let text = text.replace("\r\n", "\n").replace('\r', "\n");
            text.trim_matches(is_space).to_owned()
        };
        let expected = expected(&texts, value);
        prop_assert_eq!(sums_in_pieces(Format::Xml, &written, &lengths), expected);
    }

    #[test]
    fn the_sums_of_any_text_do_not_depend_on_where_it_is_cut(
        text in hostile_text(),
        lengths in lengths(),
    ) {
        for (format, begin) in [
            (Format::Json, ""),
            (Format::Json, "{\"answer\": \""),
            (Format::Xml, ""),
            (Format::Xml, "<answer>"),
            (Format::Xml, "<answer>a<b>"),
            (Format::Raw, ""),
        ] {
            let text = format!("{begin}{text}");
            let whole = sums(format, &text_fields(&NAMES), [text.as_str()]);
            prop_assert_eq!(sums_in_pieces(format, &text, &lengths), whole);
        }
    }
}
