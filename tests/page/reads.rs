//! What the pages say.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use tower_dspy::{RetryBudget, Tracker, page::DebugPage};

use crate::support::{LONG, Site, Work, answered, attributes, calls, make, under_way};

#[tokio::test]
async fn a_page_shows_the_calls_under_way_and_the_outcomes_of_others() {
    let tracker = Tracker::new();
    let page = DebugPage::new(tracker.clone()).retry_budget("all", &RetryBudget::default());
    let site = Site::of(page).await;
    let qa = calls(&tracker, "qa");
    answered(&qa, Work::Answer, LONG).await;
    answered(&qa, Work::Fail, LONG).await;
    let running = make(&qa, Work::Hang, LONG);
    under_way(&tracker, 1).await;

    let html = site.read("").await;
    assert!(html.contains("Nothing is wrong."), "{html}");
    assert!(html.contains("1 running, 0 waiting, 0 orphans."), "{html}");
    assert!(html.contains("Budget all: 10 retries left."), "{html}");
    assert!(attributes(&html, "href").contains(&format!("./calls/{}", running.id)));
    assert!(!html.contains("<form"), "nothing may be cancelled");

    let text = site.read("/page.txt").await;
    let same = site.read("?format=txt").await;
    assert_eq!(text.lines().next(), same.lines().next());
    assert!(text.starts_with("Nothing is wrong. 1 running"), "{text}");
    assert!(text.contains("in the service"), "{text}");

    let json: Value = serde_json::from_str(&site.read("/page.json").await).unwrap();
    assert_eq!(json["is_well"], true);
    assert_eq!(json["programs"][0]["name"], "qa");
    assert_eq!(json["programs"][0]["now"]["running"], 1);
    assert_eq!(json["programs"][0]["outcomes"]["within25"], 1);
    assert_eq!(json["programs"][0]["outcomes"]["failed"], 1);
    assert_eq!(json["live"][0]["id"], running.id.get());
    let deadline = json["live"][0]["deadline"].as_f64().unwrap();
    assert!((3_500.0..=3_600.0).contains(&deadline), "{deadline}");
    assert_eq!(json["lms"], Value::Null);
}

#[tokio::test]
async fn many_good_calls_do_not_displace_a_few_late_ones() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone())).await;
    let qa = calls(&tracker, "qa");
    let mut late = Vec::new();
    for _ in 0..3 {
        late.push(answered(&qa, Work::Hang, Duration::from_millis(1)).await);
    }
    for _ in 0..5000 {
        answered(&qa, Work::Answer, LONG).await;
    }
    let html = site.read("").await;
    let links = attributes(&html, "href");
    let link = |class: &str| {
        let is_it = |link: &&String| link.ends_with(&format!("calls={class}"));
        let link = links.iter().find(is_it).expect("a cell that is not empty");
        link.trim_start_matches("./calls").to_owned()
    };
    let of_late = site.read(&link("late")).await;
    for id in late {
        assert!(attributes(&of_late, "href").contains(&id.to_string()));
        let page = site.read(&format!("/{id}")).await;
        assert!(
            page.contains("<svg") && page.contains("Timed out after"),
            "{page}"
        );
    }
    let good = site.read(&link("within25")).await;
    assert!(good.contains("The last 10 of 5,000 calls."), "{good}");
}

#[tokio::test]
async fn finished_calls_are_shown_by_the_time_that_they_took() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone())).await;
    let id = answered(&calls(&tracker, "qa"), Work::Answer, LONG).await;
    let html = site.read("?by=time").await;
    let links = attributes(&html, "href");
    let took = links.iter().find(|link| link.contains("calls=from_"));
    let took = took.expect("a cell").trim_start_matches("./calls");
    let samples = site.read(took).await;
    assert!(attributes(&samples, "href").contains(&id.to_string()));
    assert!(!html.contains("calls=within25"), "{html}");
}

#[tokio::test]
async fn the_calls_of_a_program_in_one_phase_are_listed() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone())).await;
    let one = make(&calls(&tracker, "one"), Work::Hang, LONG);
    let other = make(&calls(&tracker, "other"), Work::Hang, LONG);
    under_way(&tracker, 2).await;
    let listed = site.read("/samples?program=one&calls=running").await;
    let links = attributes(&listed, "href");
    assert!(links.contains(&one.id.to_string()) && !links.contains(&other.id.to_string()));
}

#[tokio::test]
async fn a_call_is_shown_in_each_format() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone())).await;
    let id = answered(&calls(&tracker, "qa"), Work::Answer, LONG).await;
    let html = site.read(&format!("/{id}")).await;
    assert!(
        html.contains("<svg") && html.contains("class=\"story\""),
        "{html}"
    );
    assert!(attributes(&html, "data-live").is_empty(), "it is settled");
    let text = site.read(&format!("/{id}.txt")).await;
    assert!(text.contains("qa"), "{text}");
    let json: Value = serde_json::from_str(&site.read(&format!("/{id}.json")).await).unwrap();
    assert_eq!(json["id"], id.get());
    let perfetto = site.get(&format!("/{id}.perfetto.json")).await;
    let disposition = perfetto.headers()["content-disposition"].to_str().unwrap();
    assert_eq!(
        disposition,
        format!("attachment; filename=\"call-{id}.perfetto.json\"")
    );
    let perfetto: Value = serde_json::from_str(&perfetto.text().await.unwrap()).unwrap();
    assert!(perfetto["traceEvents"].is_array(), "{perfetto}");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let site = Site::of(DebugPage::new(Tracker::new()).allow_cancel()).await;
    for path in [
        "/1",
        "/1.json",
        "/nonsense",
        "/1/2/3",
        "/samples?calls=nonsense",
        "/samples",
    ] {
        assert_eq!(
            site.get(path).await.status(),
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_outcome_of_a_call_is_read_out_and_its_running_times_are_not() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone())).await;
    let qa = calls(&tracker, "qa");
    let running = make(&qa, Work::Hang, LONG);
    under_way(&tracker, 1).await;
    let ended = answered(&qa, Work::Answer, LONG).await;
    let read_out = async |id| {
        let html = site.read(&format!("/{id}")).await;
        let regions = html.split("aria-live=\"polite\">").skip(1);
        let regions = regions.map(|region| region.split("</div>").next().unwrap().to_owned());
        regions.collect::<Vec<_>>()
    };
    assert_eq!(read_out(running.id).await, [""]);
    let outcome = read_out(ended).await.join(", ");
    assert!(outcome.contains("Completed after "), "{outcome}");
    assert!(!outcome.contains("Its work"), "{outcome}");
}
