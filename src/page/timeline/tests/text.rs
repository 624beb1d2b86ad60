//! The timeline as plain text.

use super::samples::{all, deadline_passed, hostile};
use crate::page::timeline_text;

#[test]
fn the_picture_is_100_columns_wide_and_nothing_leaves_its_line() {
    for (name, call) in all() {
        let text = timeline_text(&call);
        let rows: Vec<_> = text.lines().filter(|line| line.ends_with('|')).collect();
        assert!(!rows.is_empty(), "{name}");
        for row in rows {
            assert_eq!(row.chars().count(), 100, "{name}: {row}");
        }
    }
}

#[test]
fn names_keep_no_control_characters() {
    let text = timeline_text(&hostile());
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(control), "{text:?}");
    assert!(text.contains("</svg><script>"), "it is no HTML");
    assert!(text.lines().all(|line| !line.starts_with("[31m")));
}

#[test]
fn it_has_the_call_its_picture_and_its_story() {
    let text = timeline_text(&deadline_passed());
    for part in [
        "qa\n",
        "arrived 2026-09-21T14:13:20.000Z\n",
        "Timed out after 4 s; deadline 4 s",
        "LM 2 gpt-4o",
        "D deadline +4.000 s",
        "\n +4.000 s  deadline passed: told to stop\n",
        "2 LM calls: 943 tokens, 943 wasted",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let ruler = text.lines().find(|line| line.ends_with('|'));
    assert!(ruler.is_some_and(|ruler| ruler.contains("DAS")), "{text}");
}
