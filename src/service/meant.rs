//! Suggestions for misspelt names.

/// `; did you mean ..?` for the closest of `known`, if one is close; else nothing.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let most = (name.chars().count() / 3).clamp(1, 3);
    // Names of clients may be of any length.
    let is_short = name.len() <= 64;
    let close = known
        .filter(|_| is_short)
        .map(|known| (distance(&name.to_lowercase(), &known.to_lowercase()), known))
        // Names of one character that differ have nothing in common.
        .filter(|(distance, known)| *distance <= most && *distance < known.chars().count())
        .min_by_key(|(distance, _)| *distance);
    close.map_or_else(String::new, |(_, known)| {
        format!("; did you mean `{known}`?")
    })
}

/// How many characters are to be added, dropped or replaced to make `b` of `a`; two that are swapped
/// count as two.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<_> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (above, b) in row.iter().skip(1).zip(&b) {
            left = (diagonal + usize::from(a != *b))
                .min(left + 1)
                .min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
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
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
