//! Which fields are emitted, and how.

use super::*;

fn fields() -> Vec<OutputField> {
    let json = r#"[["reasoning", true, false], ["n", false, true], ["answer", true, true]]"#;
    serde_json::from_str(json).unwrap()
}

#[test]
fn only_wanted_text_fields_are_emitted() {
    for (format, text) in [
        (
            Format::Chat,
            "[[ ## reasoning ## ]]\nr\n[[ ## n ## ]]\n3\n[[ ## answer ## ]]\nyes",
        ),
        (
            Format::Json,
            r#"{"reasoning": "r", "n": "3", "answer": "yes"}"#,
        ),
        (
            Format::Xml,
            "<reasoning>r<b/></reasoning><n>3</n><answer>yes</answer>",
        ),
    ] {
        let expected = Sums::from([("answer".to_owned(), "yes".to_owned())]);
        assert_eq!(sums(format, &fields(), [text]), expected);
        assert_eq!(sums(format, &fields(), cut(text, &[1])), expected);
    }
}

#[test]
fn all_text_of_an_unknown_format_is_emitted_without_a_name() {
    let mut reader = Reader::new(Format::Raw, &[]);
    for (piece, sum) in [
        ("", None),
        (" [[ ##", Some(" [[ ##")),
        ("\n", Some(" [[ ##\n")),
    ] {
        reader.push(piece);
        assert_eq!(reader.sums.get("").map(String::as_str), sum);
    }
    assert_eq!(reader.finish()[""], " [[ ##\n");
}

#[test]
fn the_deltas_of_one_piece_come_in_their_order() {
    let fields = text_fields(&["reasoning", "answer"]);
    let mut parser = FieldParser::new(Format::Chat, fields);
    let mut deltas = Vec::new();
    let text = "[[ ## answer ## ]] a b\nc\n[[ ## reasoning ## ]]\nr\n[[ ## completed ## ]]";
    parser.push(text, &mut |name, delta| {
        deltas.push(format!("{name}: {delta}"))
    });
    assert_eq!(deltas, ["answer: a b\nc", "reasoning: r"]);
}

#[test]
fn the_formats_have_the_names_of_the_port() {
    let formats: [Format; 4] = serde_json::from_str(r#"["chat", "json", "xml", "raw"]"#).unwrap();
    assert_eq!(
        formats,
        [Format::Chat, Format::Json, Format::Xml, Format::Raw]
    );
}
