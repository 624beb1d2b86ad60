//! Suggestions for misspelt names.

use strsim::levenshtein;

/// `; did you mean ..?` for the closest of `known`, if one is close; else nothing.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let most = (name.chars().count() / 3).clamp(1, 3);
    // Names of clients may be of any length.
    let is_short = name.len() <= 64;
    let close = known
        .filter(|_| is_short)
        .map(|known| {
            let distance = levenshtein(&name.to_lowercase(), &known.to_lowercase());
            (distance, known)
        })
        // Names of one character that differ have nothing in common.
        .filter(|(distance, known)| *distance <= most && *distance < known.chars().count())
        .min_by_key(|(distance, _)| *distance);
    close.map_or_else(String::new, |(_, known)| {
        format!("; did you mean `{known}`?")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_name_is_suggested_and_a_distant_one_is_not() {
        let known = || ["question", "context", "k"].into_iter();
        for name in ["questoin", "Question", "qestion", "questions"] {
            assert_eq!(did_you_mean(name, known()), "; did you mean `question`?");
        }
        for name in ["answer", "", "q", "text", &"question".repeat(100)] {
            assert_eq!(did_you_mean(name, known()), "", "{name}");
        }
    }
}
