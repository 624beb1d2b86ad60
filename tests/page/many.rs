//! Many calls under way.

use std::time::Duration;

use tokio::time::Instant;
use tower_dspy::{Tracker, page::DebugPage};

use crate::support::{LONG, Site, Work, calls, make, under_way};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_ten_thousand_calls_is_small_and_comes_in_time() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone()).allow_cancel()).await;
    let qa = calls(&tracker, "qa");
    let first = make(&qa, Work::Hang, LONG / 2);
    for _ in 1..10_000 {
        make(&qa, Work::Hang, LONG);
    }
    under_way(&tracker, 10_000).await;
    let begun = Instant::now();
    let html = site.read("").await;
    let took = begun.elapsed();
    // Some 20 ms, unless the machine has other work.
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(html.len() < 400_000, "{} bytes", html.len());
    assert_eq!(html.matches("<form").count(), 200);
    assert!(html.contains("9,800 more") && html.contains("10,000 running"));
    let rows = html
        .split_once("<table class=\"calls\">")
        .expect("the table")
        .1;
    let first_id = format!("id=\"call-{}\"", first.id);
    let at = rows.find("id=\"call-").expect("a row");
    assert!(
        rows[at..].starts_with(&first_id),
        "the least time left first"
    );
    assert!(site.read("/page.txt").await.len() < 100_000);
    assert!(site.read("/samples?program=qa&calls=running").await.len() < 200_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_thousands_of_names_is_bounded() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone())).await;
    for n in 0..3_000 {
        make(&calls(&tracker, &format!("program {n}")), Work::Hang, LONG);
    }
    under_way(&tracker, 3_000).await;
    let html = site.read("").await;
    assert!(html.len() < 1_000_000, "{} bytes", html.len());
    assert!(html.contains("2,900 more"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_calls_past_their_deadline_are_counted() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone())).await;
    let qa = calls(&tracker, "qa");
    for _ in 0..250 {
        make(&qa, Work::CleanUp, Duration::from_millis(1));
    }
    make(&qa, Work::CleanUp, LONG);
    under_way(&tracker, 251).await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    let html = site.read("").await;
    assert!(html.contains("250 calls past the deadline."), "{html}");
}
