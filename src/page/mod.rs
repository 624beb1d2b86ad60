//! A live page of the calls, for the people who operate a server (feature `debug-page`).
//!
//! It answers: who waits for what now, which calls were late or cancelled, what did that cost, and
//! has everything stopped?
//!
//! ```no_run
//! use axum::Router;
//! use tokio::net::TcpListener;
//! use tower_dspy::{
//!     Shutdown, Tracker,
//!     page::DebugPage,
//!     server::{GracefulShutdown, serve},
//! };
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let tracker = Tracker::new();
//! let shutdown = Shutdown::new();
//! // The programs' services: each with a `TrackLayer::new(tracker.clone()).with_label("qa")`.
//! let app: Router = Router::new();
//!
//! let page = DebugPage::new(tracker)
//!     .shutdown(&shutdown)
//!     .token(std::env::var("PAGE_TOKEN")?)
//!     .allow_cancel();
//! let app = app.nest("/debug/calls", page.into_router());
//! # use std::time::Duration;
//! # let listener = TcpListener::bind("127.0.0.1:8080").await?;
//! serve(listener, app, GracefulShutdown::new(shutdown, Duration::from_secs(20))).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Who may look
//! Everyone who reaches the router: **it is off unless it is mounted**. Mount it where only your own
//! people come, such as a listener on loopback, ask for a [token](DebugPage::token), or put a layer of
//! your own around the router by [`Router::layer`](::axum::Router::layer). Inputs, prompts and answers
//! are in no part of it, and tenants are not either: a timeline does not have them, and no option shows
//! them. Names of programs, models and tools, ids and Python frames are shown.
//!
//! # What it shows
//! - A sentence: what is wrong, else that nothing is, and how much is under way.
//! - Programs, and how many calls of each wait, run, stop or go on after their answer, and how many
//!   ended in each [class](crate::timeline::OutcomeClass): by the share of the time to the deadline that they
//!   took, or by that [time](crate::timeline::TookClass). Ten of each class are kept, so that many
//!   good calls do not displace a few late ones.
//! - Calls under way: what each waits for, a bar that runs to its deadline, its costs so far, and with
//!   [`allow_cancel`](DebugPage::allow_cancel) a button that cancels it, if it can be cancelled and was
//!   not yet.
//! - A call's timeline as a picture and as sentences.
//! - With a [host](DebugPage::host), its LMs and its worker processes.
//!
//! It is HTML that needs no script to be read. With scripts it is live, by one stream of server-sent
//! events: it is rendered again each second, by one reading for all. 16 such streams are served at once;
//! further ones get 503, and their pages have a link that loads them again. They end within a second
//! after a [shutdown](DebugPage::shutdown) begins to drain.
//!
//! # The routes
//!
//! | path | what |
//! |---|---|
//! | (none) | the page; `?by=time` by the time that calls took; `?format=txt` and `?format=json` as below |
//! | `/page.txt`, `/page.json` | the page as text and as JSON; times are in seconds |
//! | `/samples?program=qa&calls=late` | the calls of one class |
//! | `/8123` | the call with this id |
//! | `/8123.txt`, `/8123.json` | its timeline as text, and as the JSON of [`CallTimeline`] |
//! | `/8123.perfetto.json` | its timeline as a file for <https://ui.perfetto.dev> |
//! | `POST /8123/cancel` | cancels it; a form with the page's token. 303 to the page, or 404 if no such call is under way, or 409 if its layer only [observes](crate::TrackLayer::observe_only) |
//!
//! [`CallTimeline`]: crate::timeline::CallTimeline
//!
//! ```sh
//! curl -u :"$PAGE_TOKEN" localhost:8080/debug/calls/page.txt
//! ```
//!
//! # Security
//! GET changes nothing. A form to cancel has a token that is random for each router, and comes from
//! the page's own origin, by `Sec-Fetch-Site` or `Origin`. No response can be embedded, cached or
//! sniffed, and none has a script or style but those of the page's two files
//! (`Content-Security-Policy`). Text from outside is escaped, in one line, and cut off.

mod access;
mod call_formats;
mod columns;
mod debug_page;
mod headers;
mod headline;
mod html;
mod page_reading;
mod readings;
mod routes;
mod shared_reading;
mod sources;
mod stage;
mod state;
mod text;
mod text_table;
mod timeline;
mod units;
mod update_clients;
mod updates;

pub use self::{
    debug_page::DebugPage,
    timeline::{
        html::{TimelineScene, timeline_html},
        perfetto::timeline_perfetto,
        story::{TimelineStory, timeline_story},
        story_line::StoryLine,
        style::TIMELINE_STYLE,
        svg::timeline_svg,
        text::timeline_text,
    },
};
