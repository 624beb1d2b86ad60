//! The routes of the page.

use axum::{
    Json, Router,
    extract::{Form, OriginalUri, Path, Query, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::{
    access::is_same_origin,
    call_formats::{CallFormat, call_in},
    columns::Column,
    headers::secure,
    html,
    state::{PageQuery, PageState, base_from, home_from},
    text,
    timeline::style::TIMELINE_STYLE,
    updates,
};
use crate::{call::CallId, inbound::axum::cancelled, layers::track::ProgramCalls};

const STYLE: &str = include_str!("assets/page.css");
const SCRIPT: &str = include_str!("assets/page.js");
/// How many calls a list of live ones shows.
const MOST_LISTED: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SampleQuery {
    program: String,
    calls: String,
}

#[derive(Deserialize)]
struct CancelForm {
    token: String,
    #[serde(default)]
    back: String,
}

pub(super) fn router<S>(state: PageState) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let (style, script) = ("text/css; charset=utf-8", "text/javascript; charset=utf-8");
    let file = |kind, text: String| {
        let text = Bytes::from(text);
        get(move || async move { ([(header::CONTENT_TYPE, kind)], text) })
    };
    Router::new()
        .route("/", get(page))
        .route("/page.txt", get(page_text))
        .route("/page.json", get(page_json))
        .route(
            "/page.css",
            file(style, format!("{STYLE}\n{TIMELINE_STYLE}")),
        )
        .route("/page.js", file(script, SCRIPT.to_owned()))
        .route("/live", get(updates::of_page))
        .route("/samples", get(samples))
        .route("/{call}", get(call))
        .route("/{call}/live", get(updates::of_call))
        .route("/{call}/cancel", post(cancel))
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(state.clone(), let_in))
        .layer(middleware::map_response(secure))
        .with_state(state)
}

/// Refuses requests without the token.
async fn let_in(State(state): State<PageState>, request: Request, next: Next) -> Response {
    match &state.token {
        Some(token) if !token.is_in(request.headers()) => {
            let ask = [(
                header::WWW_AUTHENTICATE,
                "Basic realm=\"calls\", charset=\"UTF-8\"",
            )];
            (StatusCode::UNAUTHORIZED, ask, "a token is needed\n").into_response()
        }
        _ => next.run(request).await,
    }
}

async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "there is no such page\n").into_response()
}

async fn page(
    State(state): State<PageState>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<PageQuery>,
) -> Response {
    match query.format.as_deref() {
        Some("txt" | "text") => return page_text(State(state), Query(query)).await,
        Some("json") => return page_json(State(state)).await,
        _ => {}
    }
    let reading = state.reading().await;
    let base = base_from(uri.path());
    let links = html::PageLinks {
        base: &base,
        by_time: query.by_time(),
        form_token: state.form_token.as_ref(),
    };
    html::calls(&reading, &links).into_response()
}

async fn page_text(State(state): State<PageState>, Query(query): Query<PageQuery>) -> Response {
    text::page(&state.reading().await, query.by_time()).into_response()
}

async fn page_json(State(state): State<PageState>) -> Response {
    Json(state.reading().await).into_response()
}

/// The calls of a cell of the matrix.
async fn samples(
    State(state): State<PageState>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<SampleQuery>,
) -> Response {
    let SampleQuery { program, calls } = query;
    let Some(column) = Column::named(&calls) else {
        return (StatusCode::NOT_FOUND, "there is no such class of calls\n").into_response();
    };
    let tracker = &state.sources.tracker;
    let timelines = match column {
        Column::Live(phase) => tracker.timelines_in(&program, phase, MOST_LISTED),
        Column::Orphans => tracker.orphans(Some(&program), MOST_LISTED),
        Column::Outcome(class) => tracker.sampled(&program, class),
        Column::Took(class) => tracker.sampled_by_time(&program, class),
    };
    let is_of_it = |calls: &ProgramCalls| *calls.name == *program;
    let programs = tracker.programs();
    let of_it = programs.iter().find(|calls| is_of_it(calls));
    let total = of_it.map_or(0, |calls| column.count(calls));
    html::samples(
        (&program, column),
        &home_from(uri.path()),
        total,
        &timelines,
        state.sources.has_host(),
    )
    .into_response()
}

/// The page of a call, or its timeline in the format that the path ends with.
async fn call(
    State(state): State<PageState>,
    OriginalUri(uri): OriginalUri,
    Path(name): Path<String>,
) -> Response {
    let home = home_from(uri.path());
    let (id, format) = CallFormat::split(&name);
    let Some(timeline) = state.timeline(id) else {
        return (StatusCode::NOT_FOUND, not_kept(format, id, &home)).into_response();
    };
    call_in(format, &timeline, &state, &home)
}

fn not_kept(format: CallFormat, id: &str, home: &str) -> Response {
    match format {
        CallFormat::Html => html::not_kept(id, home).into_response(),
        _ => "no such call is under way or kept\n".into_response(),
    }
}

async fn cancel(
    State(state): State<PageState>,
    Path(name): Path<String>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    Form(form): Form<CancelForm>,
) -> Response {
    let Some(token) = &state.form_token else {
        return (StatusCode::FORBIDDEN, "the page may not cancel calls\n").into_response();
    };
    if !token.is(&form.token) || !is_same_origin(&headers, &uri) {
        let problem = "the form is not of this page: load the page again\n";
        return (StatusCode::FORBIDDEN, problem).into_response();
    }
    let Ok(id) = name.parse::<CallId>() else {
        return (StatusCode::NOT_FOUND, "there is no such call\n").into_response();
    };
    // From `{call}/cancel`.
    let call = uri.path().strip_suffix("/cancel").unwrap_or_default();
    let home = format!("../{}", home_from(call));
    let cancellation = match cancelled(&state.sources.tracker, id) {
        Ok(cancellation) => cancellation,
        Err((status, detail)) => {
            return (status, html::not_cancelled(&detail, &home)).into_response();
        }
    };
    tracing::info!(
        target: "tower_dspy",
        call_id = id.get(),
        signalled = cancellation.signalled(),
        "a call is cancelled by the debug page"
    );
    let back = match &*form.back {
        "list" => home,
        "list by time" => format!("{home}?by=time"),
        _ => format!("../{id}"),
    };
    Redirect::to(&back).into_response()
}
