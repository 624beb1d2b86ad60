//! [`StreamOptions`]: when the head of a stream is sent, what keeps it alive, and what is left out.

use std::time::Duration;

use crate::stream::StreamEvent;

/// What the routes of this module have in common, with a method for each route.
///
/// ```
/// use std::time::Duration;
/// use axum::Router;
/// use tower::service_fn;
/// use tower_dspy::{
///     Error, PredictRequest, Prediction, PredictionStream,
///     inbound::axum::stream::{ChatFields, StreamOptions},
/// };
///
/// let streaming = service_fn(|_: PredictRequest| async {
///     let done = tower_dspy::StreamEvent::Done(Box::default());
///     Ok::<_, Error>(PredictionStream::new(futures_util::stream::iter([Ok(done)])))
/// });
/// let options = StreamOptions::new()
///     .with_keep_alive(Duration::from_secs(5))
///     .with_head_after(None)
///     .without_tools();
/// let fields = ChatFields::new("question", "answer");
/// let app: Router = Router::new().route("/api/chat", options.ui_messages(streaming, fields));
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "its methods make the routes"]
pub struct StreamOptions {
    pub(super) keep_alive: Duration,
    pub(super) head_after: Option<Duration>,
    tools: bool,
    thinking: bool,
    statuses: bool,
}

impl StreamOptions {
    /// A comment after each 15 s without an event, the head after 5 s at the latest, and all events.
    pub const fn new() -> Self {
        Self {
            keep_alive: Duration::from_secs(15),
            head_after: Some(Duration::from_secs(5)),
            tools: true,
            thinking: true,
            statuses: true,
        }
    }

    /// Sends an SSE comment, which clients ignore, after each `interval` without an event: at least
    /// 1 ms, at most a day. It is below the idle limits of proxies, and finds connections that are
    /// dead.
    pub fn with_keep_alive(mut self, interval: Duration) -> Self {
        self.keep_alive = interval.clamp(Duration::from_millis(1), Duration::from_secs(86_400));
        self
    }

    /// Sends the head of the response `after` this time at the latest; `None`: only with the first
    /// event.
    ///
    /// Until the head is sent a failure is a normal response with its status and `Retry-After`, so
    /// that clients and proxies may try again; after that it is an event. Proxies and clients give up
    /// if no head comes for long.
    pub const fn with_head_after(mut self, after: Option<Duration>) -> Self {
        self.head_after = after;
        self
    }

    /// Leaves out the calls, the results and the errors of tools, which may be no business of the
    /// client. DSPy's own statuses name the tools: see [`without_statuses`](Self::without_statuses).
    pub const fn without_tools(mut self) -> Self {
        self.tools = false;
        self
    }

    /// Leaves out the model's own thinking.
    pub const fn without_thinking(mut self) -> Self {
        self.thinking = false;
        self
    }

    /// Leaves out the statuses: DSPy's own, such as `Calling tool search...`, and those of the
    /// program. The events of tools are left out by [`without_tools`](Self::without_tools).
    pub const fn without_statuses(mut self) -> Self {
        self.statuses = false;
        self
    }

    /// Whether the client gets this event.
    pub(super) const fn shows(&self, event: &StreamEvent) -> bool {
        match event {
            StreamEvent::ToolCall { .. } | StreamEvent::ToolResult { .. } => self.tools,
            StreamEvent::Thinking { .. } => self.thinking,
            StreamEvent::Status { .. } => self.statuses,
            StreamEvent::Text { .. }
            | StreamEvent::Replace { .. }
            | StreamEvent::Restart { .. }
            | StreamEvent::Done(_) => true,
        }
    }
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self::new()
    }
}
