//! Calls that are cancelled by the page.

use reqwest::{RequestBuilder, StatusCode};
use tower_dspy::{Cause, Classify, Tracker, page::DebugPage};

use crate::support::{
    LONG, SOON, Site, Work, answered, attributes, calls, make, observed_calls, under_way,
};

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
    let qa = calls(&tracker, "qa");
    let backs = [
        ("list", "../../calls"),
        ("list by time", "../../calls?by=time"),
        ("call", ""),
        ("https://evil.example", ""),
    ];
    let made = backs.map(|_| make(&qa, Work::Hang, LONG));
    under_way(&tracker, backs.len()).await;
    let token = token(&site).await;
    for ((back, location), call) in backs.into_iter().zip(made) {
        let of_call = format!("../{}", call.id);
        let location = if location.is_empty() {
            &of_call
        } else {
            location
        };
        // No browser, as curl is none.
        let response = form(&site, call.id, &token, back).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::SEE_OTHER, "{back}");
        assert_eq!(response.headers()["location"], location, "{back}");
    }
}

#[tokio::test]
async fn a_call_that_has_ended_or_never_was_is_not_found() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone()).allow_cancel()).await;
    let qa = calls(&tracker, "qa");
    let running = make(&qa, Work::Hang, LONG);
    under_way(&tracker, 1).await;
    let token = token(&site).await;
    let ended = answered(&qa, Work::Answer, LONG).await;
    for id in [ended.to_string(), "999999999".to_owned()] {
        let response = form(&site, &id, &token, "list").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{id}");
        let page = response.text().await.unwrap();
        assert!(
            page.contains(&format!("No call {id} is under way here.")),
            "{page}"
        );
        assert!(
            attributes(&page, "href").contains(&"../../calls".to_owned()),
            "{page}"
        );
        assert!(
            attributes(&page, "href").contains(&"../page.css".to_owned()),
            "{page}"
        );
    }
    let response = form(&site, "nonsense", &token, "list")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(tracker.get(running.id).unwrap().stopping, None);
}

#[tokio::test]
async fn a_call_that_is_only_observed_has_no_button_and_is_not_cancelled() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone()).allow_cancel()).await;
    let observed = make(&observed_calls(&tracker, "seen"), Work::Hang, LONG);
    let other = make(&calls(&tracker, "qa"), Work::Hang, LONG);
    under_way(&tracker, 2).await;
    let html = site.read("").await;
    let actions = attributes(&html, "action");
    assert_eq!(actions, [format!("./calls/{}/cancel", other.id)]);
    let of_observed = site.read(&format!("/{}", observed.id)).await;
    assert!(!of_observed.contains("<form"), "{of_observed}");

    let token = token(&site).await;
    let refused = form(&site, observed.id, &token, "list")
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    let page = refused.text().await.unwrap();
    assert!(page.contains("is only observed."), "{page}");
    assert!(!observed.answer.is_finished());
}

#[tokio::test]
async fn a_call_that_was_cancelled_has_no_button() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone()).allow_cancel()).await;
    let call = make(&calls(&tracker, "qa"), Work::CleanUp, LONG);
    under_way(&tracker, 1).await;
    let page = format!("/{}", call.id);
    assert!(site.read("").await.contains("<form") && site.read(&page).await.contains("<form"));
    assert!(tracker.cancel(call.id).signalled());
    assert!(!site.read("").await.contains("<form"));
    assert!(!site.read(&page).await.contains("<form"));
    assert!(!call.answer.is_finished());
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
