//! The page, read.

use tower_dspy::doctor::{CheckOutcome, Diagnosis};

const PAGE: &str = include_str!("../../src/docs/setup_errors.md");

/// The tests that make the mistakes.
const TESTS: [&str; 7] = [
    include_str!("builds.rs"),
    include_str!("environment.rs"),
    include_str!("lms.rs"),
    include_str!("programs.rs"),
    include_str!("requests.rs"),
    include_str!("servers.rs"),
    include_str!("venvs.rs"),
];

/// A row of the page.
#[derive(Debug)]
struct Row<'a> {
    key: &'a str,
    message: &'a str,
    /// The check of the doctor; empty if it has none.
    check: &'a str,
}

fn rows() -> Vec<Row<'static>> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [key, _, message, _, check] = cells[..] else {
            panic!("not five cells: {line}");
        };
        Row {
            key: key.trim_matches('`'),
            message,
            check: check.trim_matches('`'),
        }
    });
    rows.collect()
}

fn row(key: &str) -> Row<'static> {
    let found = rows().into_iter().find(|row| row.key == key);
    found.unwrap_or_else(|| panic!("the page has no `{key}`"))
}

/// Whether `text` has all parts of `message`, in their order.
fn holds(text: &str, message: &str) -> bool {
    let mut rest = text;
    message.split('…').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// Requires that the mistake `key` has the message that the page has.
#[track_caller]
pub(crate) fn says(key: &str, text: impl ToString) {
    let (row, text) = (row(key), text.to_string());
    assert!(
        holds(&text, row.message),
        "the page has\n  {}\nand the mistake `{key}` says\n  {text}",
        row.message
    );
}

/// Requires that the doctor found it, by the check that the page names.
#[track_caller]
pub(crate) fn found(key: &str, diagnosis: &Diagnosis) {
    let row = row(key);
    let bad = [CheckOutcome::Warning, CheckOutcome::Wrong];
    let mut checks = diagnosis.checks().iter();
    assert!(
        checks.any(|check| check.name() == row.check
            && bad.contains(&check.outcome())
            && holds(check.text(), row.message)),
        "`{}` does not find `{key}`, {}:\n{diagnosis}",
        row.check,
        row.message
    );
}

#[test]
fn the_page_has_thirty_mistakes_or_more_and_each_has_a_test() {
    let rows = rows();
    assert!(rows.len() >= 30, "{}", rows.len());
    for row in &rows {
        let quoted = format!("\"{}\"", row.key);
        let test = TESTS.iter().find(|test| test.contains(&quoted));
        assert!(test.is_some(), "no test makes the mistake `{}`", row.key);
        assert!(row.message.split('…').any(|part| part.trim().len() > 2));
        let same = rows.iter().filter(|other| other.key == row.key);
        assert_eq!(same.count(), 1, "{}", row.key);
    }
}

#[test]
fn a_message_has_its_parts_in_their_order() {
    assert!(holds(
        "there is no venv at `a`. Make one: b",
        "no venv at …Make one:"
    ));
    assert!(!holds(
        "Make one: there is no venv at",
        "no venv at …Make one:"
    ));
}
