//! The streams by which a page is live: server-sent events with the sections that have changed.
//!
//! Invariants:
//! 1. A stream renders its page at most once a second, and only when its client has taken what was
//!    sent before.
//! 2. There are at most `UpdateClients::MOST` streams. Those of all calls share one reading a second.
//! 3. A shutdown ends a stream at its next event, before the end of the drain.

use std::{
    collections::HashMap,
    convert::Infallible,
    hash::{BuildHasher, RandomState},
    mem,
    time::Duration,
};

use axum::{
    extract::{OriginalUri, Path, Query, State},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, stream};
use http::{StatusCode, header};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::{
    html::{self, PageLinks, Part},
    state::{PageQuery, PageState, base_from},
};
use crate::call::{CallContext, Cancel};

/// How often a page is rendered again.
const EACH: Duration = Duration::from_secs(1);
/// How long a stream lasts at most: browsers connect again.
const LONGEST: Duration = Duration::from_secs(3600);

/// The sections of the page of all calls.
pub(super) async fn of_page(
    State(page): State<PageState>,
    Query(query): Query<PageQuery>,
    OriginalUri(uri): OriginalUri,
    context: CallContext,
) -> Response {
    let mounted = uri.path().strip_suffix("/live").unwrap_or_default();
    let base = match query.flat {
        true => base_from(mounted),
        false => String::new(),
    };
    let by_time = query.by_time();
    stream_of(page, context.cancel, LivePage::Calls { base, by_time })
}

/// The sections of the page of a call, until all its work has ended.
pub(super) async fn of_call(
    State(page): State<PageState>,
    Path(name): Path<String>,
    context: CallContext,
) -> Response {
    stream_of(page, context.cancel, LivePage::Call { id: name })
}

/// What a stream shows.
enum LivePage {
    Calls { base: String, by_time: bool },
    Call { id: String },
}

impl LivePage {
    /// The sections, and whether they are the last; `None` if there is nothing to show.
    async fn parts(&self, page: &PageState) -> Option<(Vec<Part>, bool)> {
        match self {
            Self::Calls { base, by_time } => {
                let reading = page.recent_reading().await;
                let links = PageLinks {
                    base,
                    by_time: *by_time,
                    form_token: page.form_token.as_ref(),
                };
                Some((html::calls_parts(&reading, &links).into(), false))
            }
            Self::Call { id } => {
                let timeline = page.timeline(id)?;
                let form_token = page.form_token_for(&timeline);
                let has_host = page.sources.has_host();
                let parts = html::call_parts(&timeline, form_token, has_host);
                Some((parts.into(), timeline.settled.is_some()))
            }
        }
    }
}

struct UpdateStream {
    page: PageState,
    cancel: Cancel,
    shows: LivePage,
    ticks: Interval,
    ends: Instant,
    /// The hashes of the sections that were sent last.
    sent: HashMap<&'static str, u64>,
    hasher: RandomState,
    /// What it shows was not there at the last tick.
    was_missing: bool,
    is_over: bool,
    _permit: OwnedSemaphorePermit,
}

fn stream_of(page: PageState, cancel: Cancel, shows: LivePage) -> Response {
    let Some(permit) = page.updates.enter() else {
        let retry = [(header::RETRY_AFTER, "10")];
        let problem = "as many pages as may be are live already\n";
        return (StatusCode::SERVICE_UNAVAILABLE, retry, problem).into_response();
    };
    let mut ticks = interval_at(Instant::now() + EACH, EACH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let updates = UpdateStream {
        page,
        cancel,
        shows,
        ticks,
        ends: Instant::now() + LONGEST,
        sent: HashMap::new(),
        hasher: RandomState::new(),
        was_missing: false,
        is_over: false,
        _permit: permit,
    };
    let mut response = Sse::new(updates.events())
        .keep_alive(KeepAlive::new())
        .into_response();
    let is_unbuffered = http::HeaderValue::from_static("no");
    response
        .headers_mut()
        .insert("x-accel-buffering", is_unbuffered);
    response
}

impl UpdateStream {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> + Send {
        stream::unfold(self, |mut updates| async move {
            let event = updates.next().await?;
            Some((Ok(event), updates))
        })
    }

    /// The next event: all sections that have changed since the last one.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.is_over {
                return None;
            }
            let token = self.cancel.token().cloned();
            let is_cancelled = async move {
                match token {
                    Some(token) => token.cancelled_owned().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = is_cancelled => return None,
                _ = self.ticks.tick() => {}
            }
            if self.page.updates.is_shutting_down() || self.ends <= Instant::now() {
                return None;
            }
            let Some((parts, is_last)) = self.shows.parts(&self.page).await else {
                // A call that ends is in no list for a moment.
                if !mem::replace(&mut self.was_missing, true) {
                    continue;
                }
                self.is_over = true;
                return Some(Event::default().event("end").data(""));
            };
            self.was_missing = false;
            let changed = self.changed(parts);
            if is_last {
                self.is_over = true;
                return Some(event("last", &changed));
            }
            if !changed.is_empty() {
                return Some(event("sections", &changed));
            }
        }
    }

    fn changed(&mut self, parts: Vec<Part>) -> serde_json::Map<String, serde_json::Value> {
        let mut changed = serde_json::Map::new();
        for (id, html) in parts {
            let html = html.into_string();
            let hash = self.hasher.hash_one(&html);
            if self.sent.insert(id, hash) != Some(hash) {
                changed.insert(id.to_owned(), html.into());
            }
        }
        changed
    }
}

fn event(name: &str, sections: &serde_json::Map<String, serde_json::Value>) -> Event {
    let json = serde_json::to_string(sections).unwrap_or_default();
    Event::default().event(name).data(json)
}
