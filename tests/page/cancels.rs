//! Calls that are cancelled by the page.

use reqwest::{RequestBuilder, StatusCode};
use tower_dspy::{Cause, Classify, Tracker, page::DebugPage};

use crate::support::{LONG, SOON, Site, Work, attributes, calls, make, under_way};

fn form(site: &Site, id: impl std::fmt::Display, token: &str, back: &str) -> RequestBuilder {
    let back = back.replace(' ', "+");
    site.client
        .post(site.url(&format!("/{id}/cancel")))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("token={token}&back={back}"))
}

/// The token in the forms of the page.
async fn token(site: &Site) -> String {
    let html = site.read("").await;
    let values = attributes(&html, "value");
    values
        .into_iter()
        .find(|value| value.len() == 32)
        .expect("a form")
}

#[tokio::test]
async fn a_form_of_the_page_cancels_a_call() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone()).allow_cancel()).await;
    let qa = calls(&tracker, "qa");
    let (cancelled, other) = (make(&qa, Work::Hang, LONG), make(&qa, Work::Hang, LONG));
    under_way(&tracker, 2).await;
    let html = site.read("").await;
    let action = format!("./calls/{}/cancel", cancelled.id);
    assert!(attributes(&html, "action").contains(&action), "{html}");

    let token = token(&site).await;
    let origin = format!("http://{}", site.address);
    let form = form(&site, cancelled.id, &token, "list").header("origin", origin);
    let response = form.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(response.headers()["location"], "../../calls");
    let ended = tokio::time::timeout(SOON, cancelled.answer)
        .await
        .expect("an end");
    let error = ended.unwrap().expect_err("it was cancelled");
    assert_eq!(error.cancel_cause(), Some(Cause::Caller));
    assert_eq!(tracker.get(other.id).unwrap().stopping, None);
    let page = site.read(&format!("/{}", cancelled.id)).await;
    assert!(page.contains("Cancelled (caller) after"), "{page}");
}

#[tokio::test]
async fn a_form_returns_to_where_it_was() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone()).allow_cancel()).await;
    let call = make(&calls(&tracker, "qa"), Work::Hang, LONG);
    under_way(&tracker, 1).await;
    let token = token(&site).await;
    let of_call = format!("../{}", call.id);
    let evil = "https://evil.example";
    let backs = [
        ("list", "../../calls"),
        ("list by time", "../../calls?by=time"),
        ("call", &*of_call),
        (evil, &*of_call),
    ];
    for (back, location) in backs {
        // No browser, as curl is none.
        let response = form(&site, call.id, &token, back).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::SEE_OTHER, "{back}");
        assert_eq!(response.headers()["location"], location, "{back}");
    }
}

#[tokio::test]
async fn a_form_from_elsewhere_cancels_nothing() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone()).allow_cancel()).await;
    let other_site = Site::of(DebugPage::new(tracker.clone()).allow_cancel()).await;
    let call = make(&calls(&tracker, "qa"), Work::Hang, LONG);
    under_way(&tracker, 1).await;
    let (own, others) = (token(&site).await, token(&other_site).await);
    assert_ne!(own, others, "each page has a token of its own");
    let with = |name: &'static str, value: &'static str| {
        form(&site, call.id, &own, "").header(name, value)
    };
    let forms = [
        form(&site, call.id, "", ""),
        form(&site, call.id, &others, ""),
        with("origin", "https://evil.example"),
        with("origin", "null"),
        with("sec-fetch-site", "cross-site"),
        with("sec-fetch-site", "same-site"),
    ];
    for form in forms {
        let response = form.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    }
    assert_eq!(tracker.get(call.id).unwrap().stopping, None);
}

#[tokio::test]
async fn a_page_that_may_not_cancel_does_not() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone())).await;
    let call = make(&calls(&tracker, "qa"), Work::Hang, LONG);
    under_way(&tracker, 1).await;
    for token in ["", "0", "00000000000000000000000000000000"] {
        let response = form(&site, call.id, token, "").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    }
    assert_eq!(tracker.get(call.id).unwrap().stopping, None);
}
