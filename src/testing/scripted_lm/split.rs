//! [`Split`]: how a text is cut into tokens.

/// How a text is cut into tokens, which together are the text.
#[derive(Clone, Debug, Default)]
pub(super) enum Split {
    /// Words, each with the space before it.
    #[default]
    Words,
    /// So many characters each.
    Chars(usize),
    /// The whole text is one.
    Whole,
    /// Pieces of these lengths in bytes.
    Pieces(Vec<usize>),
}

impl Split {
    pub(super) fn tokens<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let lengths = match self {
            Self::Words => return words(text),
            Self::Whole => vec![text.len()],
            Self::Pieces(lengths) => lengths.clone(),
            Self::Chars(most) => {
                let chars: Vec<_> = text.chars().map(char::len_utf8).collect();
                chars
                    .chunks(*most)
                    .map(|chars| chars.iter().sum())
                    .collect()
            }
        };
        let mut rest = text;
        let mut tokens = Vec::with_capacity(lengths.len());
        for length in lengths {
            let (token, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
            tokens.push(token);
            rest = after;
        }
        tokens
    }
}

fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.trim_start();
        let space = rest.len() - word.len();
        let end = word.find(char::is_whitespace).unwrap_or(word.len());
        let (token, after) = rest.split_at(space + end);
        words.push(token);
        rest = after;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{super::Reply, *};

    #[test]
    fn the_tokens_concatenate_to_the_text() {
        assert_eq!(words("a  b\n\nç "), ["a", "  b", "\n\nç", " "]);
        assert_eq!(words(" "), [" "]);
        assert!(words("").is_empty());
    }

    #[test]
    fn a_text_is_cut_by_characters_and_by_pieces() {
        assert_eq!(Split::Chars(2).tokens("aç😀b."), ["aç", "😀b", "."]);
        assert_eq!(Split::Whole.tokens("a b"), ["a b"]);
        let split = Reply::pieces(["a", "", "ç b"]).split;
        assert_eq!(split.tokens("aç b"), ["a", "", "ç b"]);
    }
}
