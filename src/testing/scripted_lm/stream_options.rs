//! The options of a [`Reply`] that is streamed: how its text is cut, and what comes between.

use std::time::Duration;

use super::{
    Reply,
    interlude::{Interlude, SilentEvent},
    split::Split,
};

/// Into how many events a streamed text is cut: by default one a word.
///
/// ```
/// # use tower_dspy::testing::scripted_lm::Reply;
/// let marker_in_parts = Reply::pieces(["[[ ## an", "swer ## ]]\nPar", "is"]);
/// let by_character = Reply::answer("Paris").split_every(1);
/// let at_once = Reply::answer("Paris").in_one_piece();
/// ```
impl Reply {
    /// Answers the text that these pieces are together, as it stands. In a stream each piece is an
    /// event of its own, also an empty one, and counts as a token.
    #[must_use]
    pub fn pieces<T: AsRef<str>>(pieces: impl IntoIterator<Item = T>) -> Self {
        let (mut text, mut lengths) = (String::new(), Vec::new());
        for piece in pieces {
            text.push_str(piece.as_ref());
            lengths.push(piece.as_ref().len());
        }
        Self {
            split: Split::Pieces(lengths),
            ..Self::content(text)
        }
    }

    /// Cuts the text after so many characters each time, at least one, instead of between words.
    #[must_use]
    pub fn split_every(mut self, chars: usize) -> Self {
        self.split = Split::Chars(chars.max(1));
        self
    }

    /// Sends the whole text as one token: in a stream, one event.
    #[must_use]
    pub fn in_one_piece(mut self) -> Self {
        self.split = Split::Whole;
        self
    }
}

/// What comes between the tokens. `after` counts tokens: 0 is before the first, and a number that the
/// answer does not have never comes. At the same place the order is that of the calls.
///
/// In an answer that is not streamed only thinking, which is then a part of it, and stalls have an
/// effect.
///
/// ```
/// # use std::time::Duration;
/// # use tower_dspy::testing::scripted_lm::Reply;
/// let second = Duration::from_secs(1);
/// // Three pings, two deltas of thinking, "one", ten comments, " two", and then nothing.
/// let reply = Reply::content("one two three")
///     .pings_after(0, 3, second)
///     .thinking(["let me", " see"])
///     .comments_after(1, 10, second)
///     .stall_after(2);
/// // A 200 that turns out to be an error in the middle of the text.
/// let overloaded = Reply::answer("Paris").error_after(1, 529);
/// ```
impl Reply {
    /// Sends so many pings, each after this time: Anthropic's `ping` events; the other APIs have
    /// none, so there it is a comment, as gateways send them.
    #[must_use]
    pub fn pings_after(self, after: usize, count: usize, each: Duration) -> Self {
        self.interlude(after, Interlude::Repeat(SilentEvent::Ping, count, each))
    }

    /// Sends so many comments (`: keep-alive`), each after this time.
    #[must_use]
    pub fn comments_after(self, after: usize, count: usize, each: Duration) -> Self {
        self.interlude(after, Interlude::Repeat(SilentEvent::Comment, count, each))
    }

    /// Sends so many deltas whose text is empty, each after this time.
    #[must_use]
    pub fn empty_deltas_after(self, after: usize, count: usize, each: Duration) -> Self {
        let repeat = Interlude::Repeat(SilentEvent::EmptyDelta, count, each);
        self.interlude(after, repeat)
    }

    /// Thinks before the first token: each delta is an event of its own, at the pace of
    /// [`drip`](Self::drip), in OpenAI's dialect as `reasoning_content`. No delta is counted as a
    /// token. A second call replaces the thinking and its place.
    #[must_use]
    pub fn thinking<T: Into<String>>(mut self, deltas: impl IntoIterator<Item = T>) -> Self {
        let is_thinking = |interlude: &Interlude| matches!(interlude, Interlude::Thinking(_));
        self.interludes.retain(|(_, one)| !is_thinking(one));
        let deltas = deltas.into_iter().map(Into::into).collect();
        self.interlude(0, Interlude::Thinking(deltas))
    }

    /// Sends an event whose data is not JSON, and goes on.
    #[must_use]
    pub fn garbage_after(self, after: usize) -> Self {
        self.interlude(after, Interlude::Garbage)
    }

    /// Sends an error in the provider's format as an event, and ends the stream without the events
    /// that close an answer. `code` is the status that the error would have had as an answer.
    #[must_use]
    pub fn error_after(self, after: usize, code: u16) -> Self {
        self.interlude(after, Interlude::Error(code))
    }

    /// Sends nothing more, and keeps the connection open until the client goes away. The events that
    /// open a stream have been sent by then; [`trickle`](Self::trickle) by hours sends the head
    /// alone.
    #[must_use]
    pub fn stall_after(self, after: usize) -> Self {
        self.interlude(after, Interlude::Stall)
    }

    fn interlude(mut self, after: usize, interlude: Interlude) -> Self {
        self.interludes.push((after, interlude));
        self
    }

    /// What comes after so many tokens.
    pub(super) fn interludes_after(&self, produced: usize) -> impl Iterator<Item = &Interlude> {
        let here = self.interludes.iter();
        here.filter(move |(after, _)| *after == produced)
            .map(|(_, interlude)| interlude)
    }

    /// The deltas of the thinking.
    pub(super) fn thoughts(&self) -> &[String] {
        let mut thoughts = self.interludes.iter().filter_map(|(_, one)| match one {
            Interlude::Thinking(deltas) => Some(deltas.as_slice()),
            _ => None,
        });
        thoughts.next().unwrap_or_default()
    }
}
