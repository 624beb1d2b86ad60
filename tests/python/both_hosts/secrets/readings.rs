//! What shows a call, and all calls.

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use futures_util::StreamExt;
use tower::ServiceExt;
use tower_dspy::{
    CallId,
    page::{
        TimelineScene, timeline_html, timeline_perfetto, timeline_story, timeline_svg,
        timeline_text,
    },
    timeline::CallTimeline,
};

/// A timeline in each of its forms.
pub(super) fn readings(call: &CallTimeline) -> Vec<(String, String)> {
    let scene = TimelineScene::new("a call").timeline("here", call);
    let readings = [
        ("its picture", timeline_svg(call)),
        ("its text", timeline_text(call)),
        ("its story", timeline_story(call).to_string()),
        ("its file for Perfetto", timeline_perfetto(call)),
        ("its document", timeline_html("Calls", &[scene])),
        ("its JSON", serde_json::to_string(call).unwrap()),
    ];
    readings.map(|(what, text)| (what.to_owned(), text)).into()
}

/// The pages of a call.
pub(super) async fn call_pages(page: Router, id: CallId) -> Vec<(String, String)> {
    let forms = ["", ".txt", ".json", ".perfetto.json"];
    get_all(page, forms.map(|form| format!("/{id}{form}"))).await
}

/// The page of all calls, and the lists of calls that it has links to.
pub(super) async fn pages(page: Router) -> Vec<(String, String)> {
    let forms = ["", "?by=time", "/page.txt", "/page.json"];
    let mut pages = get_all(page.clone(), forms.map(str::to_owned)).await;
    let links = pages[..2]
        .iter()
        .flat_map(|(_, html)| html.split("href=\"").skip(1));
    let links = links.filter_map(|rest| rest.split('"').next());
    let lists = links.filter_map(|link| link.split_once("samples?"));
    let lists = lists.map(|(_, query)| format!("/samples?{}", query.replace("&amp;", "&")));
    let lists: Vec<_> = lists.collect();
    assert!(!lists.is_empty(), "{pages:?}");
    pages.extend(get_all(page, lists).await);
    pages
}

/// What the pages get as events while they are open.
pub(super) async fn live_pages(page: Router, id: CallId) -> Vec<(String, String)> {
    get_all(page, ["/live".to_owned(), format!("/{id}/live")]).await
}

async fn get_all(page: Router, paths: impl IntoIterator<Item = String>) -> Vec<(String, String)> {
    let page = Router::new().nest("/calls", page);
    let mut texts = Vec::new();
    for path in paths {
        let text = get(&page, &path).await;
        texts.push((format!("the page at {path}"), text));
    }
    texts
}

/// The answer; of one that is live, its first event.
async fn get(page: &Router, path: &str) -> String {
    let request = Request::get(format!("/calls{path}"))
        .body(Body::empty())
        .unwrap();
    let response = page.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    let body = response.into_body();
    let bytes = if path.ends_with("/live") {
        body.into_data_stream().next().await.unwrap().unwrap()
    } else {
        to_bytes(body, usize::MAX).await.unwrap()
    };
    String::from_utf8(bytes.into()).unwrap()
}
