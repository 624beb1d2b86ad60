//! [`Script`]: the replies of a scripted model.

use std::time::Duration;

use http::{HeaderValue, StatusCode};

use super::{Gate, interlude::Interlude, split::Split};

/// One reply: what is said, and when, and how it goes wrong.
///
/// ```
/// # use std::time::Duration;
/// # use tower_dspy::testing::scripted_lm::Reply;
/// let slow = Reply::answer("Paris").delay(Duration::from_millis(50));
/// let dripping = Reply::answer("one two three").drip(Duration::from_millis(10));
/// let busy = Reply::status(429).retry_after(2);
/// ```
///
/// The order in time is: hold, delay, head, drip, trickle. Without streaming the tokens are
/// produced before the head is sent, as a provider does it; with [`trickle`](Reply::trickle) the
/// head is sent first.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub(super) says: ReplyKind,
    pub(super) split: Split,
    /// What comes between the tokens, each after so many.
    pub(super) interludes: Vec<(usize, Interlude)>,
    pub(super) held_by: Option<Gate>,
    pub(super) delay: Duration,
    pub(super) drip: Duration,
    pub(super) pause: Option<(usize, Gate)>,
    pub(super) trickle: Option<Duration>,
    pub(super) cut_after: Option<usize>,
    pub(super) retry_after: Option<u64>,
    pub(super) request_id: Option<HeaderValue>,
    pub(super) cached_tokens: usize,
    pub(super) reasoning_tokens: usize,
}

/// What a reply says.
#[derive(Clone, Debug, Default)]
pub(super) enum ReplyKind {
    /// Every output field the prompt asks for, filled with the prompt's input.
    #[default]
    Echo,
    /// These fields, in DSPy's format.
    Fields(Vec<(String, String)>),
    /// This text, as it stands.
    Content(String),
    /// An error of this status.
    Status(StatusCode),
    /// A 200 whose body is not JSON.
    Garbage,
    /// Nothing, ever.
    Hang,
}

impl Reply {
    fn new(says: ReplyKind) -> Self {
        Self {
            says,
            ..Self::default()
        }
    }

    /// Fills each output field that the prompt asks for with the prompt's input: what a model
    /// without a script answers.
    ///
    /// It suits signatures whose outputs are text. A prompt that does not come from DSPy is
    /// answered in plain text.
    #[must_use]
    pub fn echo() -> Self {
        Self::new(ReplyKind::Echo)
    }

    /// Answers the one output field `answer`.
    #[must_use]
    pub fn answer(text: impl Into<String>) -> Self {
        Self::fields([("answer", text)])
    }

    /// Answers these output fields, formatted as DSPy's `ChatAdapter` expects; as a JSON object
    /// if the request asks for one, as DSPy's `JSONAdapter` does.
    #[must_use]
    pub fn fields<N, T>(fields: impl IntoIterator<Item = (N, T)>) -> Self
    where
        N: Into<String>,
        T: Into<String>,
    {
        let fields = fields.into_iter().map(|(n, t)| (n.into(), t.into()));
        Self::new(ReplyKind::Fields(fields.collect()))
    }

    /// Answers this text as it stands, for example one that no adapter can parse.
    #[must_use]
    pub fn content(text: impl Into<String>) -> Self {
        Self::new(ReplyKind::Content(text.into()))
    }

    /// Fails with this status and an error in the provider's format.
    ///
    /// A number that is not a status from 200 to 999 becomes 500.
    #[must_use]
    pub fn status(code: u16) -> Self {
        let code = StatusCode::from_u16(code).ok();
        // A 1xx is no reply: hyper refuses to send it as one.
        let code = code.filter(|code| !code.is_informational());
        Self::new(ReplyKind::Status(
            code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        ))
    }

    /// Never answers: not a byte, until the client goes away.
    #[must_use]
    pub fn hang() -> Self {
        Self::new(ReplyKind::Hang)
    }

    /// Answers 200 with a body that is not JSON.
    #[must_use]
    pub fn garbage() -> Self {
        Self::new(ReplyKind::Garbage)
    }

    /// Waits for the gate before anything else is done.
    #[must_use]
    pub fn held_by(mut self, gate: &Gate) -> Self {
        self.held_by = Some(gate.clone());
        self
    }

    /// Waits this long before the first token is produced and the head is sent.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Takes this long for each token.
    #[must_use]
    pub fn drip(mut self, each: Duration) -> Self {
        self.drip = each;
        self
    }

    /// Produces this many tokens and then waits for the gate: a place to stop in mid-answer that
    /// depends on no clock.
    #[must_use]
    pub fn pause_after(mut self, tokens: usize, gate: &Gate) -> Self {
        self.pause = Some((tokens, gate.clone()));
        self
    }

    /// Sends the head at once and then the body byte by byte, taking this long for each byte.
    #[must_use]
    pub fn trickle(mut self, each: Duration) -> Self {
        self.trickle = Some(each);
        self
    }

    /// Closes the connection after this many bytes of the body. A body that is no longer than that
    /// is sent whole.
    #[must_use]
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut_after = Some(bytes);
        self
    }

    /// Adds a `Retry-After` header of this many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds a header with the provider's id of the request: `request-id` in Anthropic's dialect,
    /// `x-request-id` in the others.
    ///
    /// # Panics
    /// If the id is no value of a header.
    #[must_use]
    pub fn request_id(mut self, id: &str) -> Self {
        self.request_id = Some(HeaderValue::from_str(id).expect("a value of a header"));
        self
    }

    /// Counts this many tokens as read from a cache, beside those of the prompt: as tokens of the
    /// prompt they are counted where the dialect does so.
    #[must_use]
    pub fn cached_tokens(mut self, tokens: usize) -> Self {
        self.cached_tokens = tokens;
        self
    }

    /// Counts this many tokens as reasoning, beside those of the text: as tokens of the answer they
    /// are counted where the dialect does so.
    #[must_use]
    pub fn reasoning_tokens(mut self, tokens: usize) -> Self {
        self.reasoning_tokens = tokens;
        self
    }
}

/// What a model does: its n-th request gets the n-th reply, and the last reply repeats. A script
/// without replies [echoes](Reply::echo), which is the default.
///
/// ```
/// # use tower_dspy::testing::scripted_lm::{Reply, Script};
/// let busy = Script::from(Reply::status(503));
/// let recovers = Script::from([Reply::status(503), Reply::answer("Paris")]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Script {
    replies: Vec<Reply>,
}

impl Script {
    /// The reply to the n-th request, counted from 0.
    pub(super) fn reply(&self, n: usize) -> Reply {
        let reply = self.replies.get(n).or(self.replies.last());
        reply.cloned().unwrap_or_else(Reply::echo)
    }
}

impl From<Reply> for Script {
    fn from(reply: Reply) -> Self {
        Self::from([reply])
    }
}

impl From<Vec<Reply>> for Script {
    fn from(replies: Vec<Reply>) -> Self {
        Self { replies }
    }
}

impl<const N: usize> From<[Reply; N]> for Script {
    fn from(replies: [Reply; N]) -> Self {
        Self::from(Vec::from(replies))
    }
}
