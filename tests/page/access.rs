//! Who may look, and what a response lets a browser do.

use reqwest::{Method, Response, StatusCode};
use tower_dspy::{Tracker, page::DebugPage};

use crate::support::{LONG, Site, Work, answered, attributes, calls, make, under_way};

/// Each path of the page, for a call.
fn paths(id: impl std::fmt::Display) -> Vec<String> {
    let of_call = ["", ".txt", ".json", ".perfetto.json"].map(|end| format!("/{id}{end}"));
    let others = [
        "",
        "?by=time",
        "?format=json",
        "/page.txt",
        "/page.json",
        "/page.css",
        "/page.js",
        "/live",
        "/samples?program=qa&calls=within25",
        "/samples",
        "/nonsense",
        "/1/2/3",
    ];
    let others = others.map(str::to_owned);
    [&others[..], &of_call, &[format!("/{id}/live")]].concat()
}

fn is_secured(response: &Response, of: &str) {
    let header = |name: &str| {
        let value = response.headers().get(name);
        value
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default()
    };
    let policy = header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; "), "{of}: {policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{of}: {policy}");
    for lax in ["unsafe", "*", "data:", "http:", "https:"] {
        assert!(!policy.contains(lax), "{of}: {policy}");
    }
    assert_eq!(header("x-frame-options"), "DENY", "{of}");
    assert_eq!(header("cache-control"), "no-store", "{of}");
    assert_eq!(header("x-content-type-options"), "nosniff", "{of}");
    assert_eq!(header("referrer-policy"), "same-origin", "{of}");
}

#[tokio::test]
async fn no_response_can_be_embedded_or_cached_or_has_a_script_of_its_own() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone()).allow_cancel()).await;
    let qa = calls(&tracker, "qa");
    let id = answered(&qa, Work::Answer, LONG).await;
    let running = make(&qa, Work::Hang, LONG);
    under_way(&tracker, 1).await;
    for path in paths(id).into_iter().chain(paths(running.id)) {
        let response = site.get(&path).await;
        is_secured(&response, &path);
        if path.ends_with("live") {
            continue;
        }
        let text = response.text().await.unwrap();
        if !text.starts_with("<!DOCTYPE html>") {
            continue;
        }
        let lower = text.to_lowercase();
        assert!(
            !lower.contains("<style") && !lower.contains(" style="),
            "{path}"
        );
        assert!(
            !lower.contains("javascript:") && !lower.contains("<base"),
            "{path}"
        );
        assert_eq!(lower.matches("<script").count(), 1, "{path}");
        assert_eq!(lower.matches("<script src=").count(), 1, "{path}");
        let tags = lower
            .split('<')
            .skip(1)
            .filter_map(|tag| tag.split('>').next());
        for tag in tags {
            let names = tag.split('"').step_by(2);
            for name in names.filter(|name| name.ends_with('=')) {
                assert!(!name.trim_start().starts_with("on"), "{path}: {tag}");
            }
        }
        let sources = [attributes(&text, "href"), attributes(&text, "src")].concat();
        for source in sources {
            assert!(
                !source.contains("//") && !source.starts_with('/'),
                "{path}: {source}"
            );
        }
    }
}

#[tokio::test]
async fn get_changes_nothing() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone()).allow_cancel()).await;
    let running = make(&calls(&tracker, "qa"), Work::Hang, LONG);
    under_way(&tracker, 1).await;
    let before = tracker.counts();
    let cancel = format!("/{}/cancel", running.id);
    for path in paths(running.id) {
        for method in [Method::GET, Method::HEAD] {
            drop(site.client.request(method, site.url(&path)).send().await);
        }
    }
    for method in [
        Method::GET,
        Method::HEAD,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
    ] {
        let response = site
            .client
            .request(method, site.url(&cancel))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        is_secured(&response, &cancel);
    }
    assert_eq!(tracker.counts(), before);
    assert_eq!(tracker.get(running.id).unwrap().stopping, None);
}

#[tokio::test]
async fn without_the_token_nothing_is_shown() {
    let tracker = Tracker::new();
    let page = DebugPage::new(tracker.clone())
        .token("a secret")
        .allow_cancel();
    let site = Site::of(page).await;
    let running = make(&calls(&tracker, "qa"), Work::Hang, LONG);
    under_way(&tracker, 1).await;
    for path in paths(running.id) {
        let refused = site.get(&path).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{path}");
        is_secured(&refused, &path);
        let ask = refused.headers()["www-authenticate"].to_str().unwrap();
        assert!(ask.starts_with("Basic realm="), "{ask}");
        assert_eq!(refused.text().await.unwrap(), "a token is needed\n");

        let with = |token: &'static str| {
            site.client
                .get(site.url(&path))
                .basic_auth("me", Some(token))
        };
        let wrong = with("a secre").send().await.unwrap();
        assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED, "{path}");
        let right = with("a secret").send().await.unwrap();
        assert_ne!(right.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    let cancel = site.url(&format!("/{}/cancel", running.id));
    let refused = site
        .client
        .post(cancel)
        .body("token=x")
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
}
