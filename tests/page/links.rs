//! Links, wherever the page is mounted.

use reqwest::{StatusCode, Url};
use tower_dspy::{Tracker, page::DebugPage};

use crate::support::{LONG, Site, Work, answered, attributes, calls, make, under_way};

async fn all_links_lead_to_the_page(
    serve: impl AsyncFn(&'static str, DebugPage) -> Site,
    path: &'static str,
    starts: &[&str],
) {
    let tracker = Tracker::new();
    let site = serve(path, DebugPage::new(tracker.clone()).allow_cancel()).await;
    let qa = calls(&tracker, "qa");
    let done = answered(&qa, Work::Answer, LONG).await;
    let running = make(&qa, Work::Hang, LONG);
    under_way(&tracker, 1).await;
    let of_calls = [format!("/{done}"), format!("/{}", running.id)];
    let starts = starts
        .iter()
        .copied()
        .chain(of_calls.iter().map(|path| &**path));
    let mut followed = 0;
    for start in starts {
        let url = Url::parse(&site.url(start)).unwrap();
        let html = site.read(start).await;
        for attribute in ["href", "src", "data-live", "action"] {
            for link in attributes(&html, attribute) {
                let target = url.join(&link).unwrap();
                let status = site
                    .client
                    .get(target.clone())
                    .send()
                    .await
                    .unwrap()
                    .status();
                let expected = match attribute {
                    "action" => StatusCode::METHOD_NOT_ALLOWED,
                    _ => StatusCode::OK,
                };
                assert_eq!(status, expected, "{url} has {link}: {target}");
                followed += 1;
            }
        }
    }
    assert!(followed > 20, "{followed}");
}

#[tokio::test]
async fn links_work_from_a_nested_path_with_and_without_a_slash_at_its_end() {
    let starts = ["", "?by=time"];
    for mounted in ["/debug/calls", "/calls"] {
        all_links_lead_to_the_page(Site::at, mounted, &starts).await;
    }
    let starts = ["", "/", "?by=time", "/?by=time"];
    all_links_lead_to_the_page(Site::as_service_at, "/debug/calls", &starts).await;
}

#[tokio::test]
async fn links_work_from_the_root() {
    all_links_lead_to_the_page(Site::at, "", &["/", "/?by=time"]).await;
}

#[tokio::test]
async fn links_of_an_update_are_those_of_the_page() {
    let tracker = Tracker::new();
    let page = DebugPage::new(tracker.clone());
    let site = Site::as_service_at("/debug/calls", page).await;
    let running = make(&calls(&tracker, "qa"), Work::Hang, LONG);
    under_way(&tracker, 1).await;
    for start in ["", "/"] {
        let html = site.read(start).await;
        let url = Url::parse(&site.url(start)).unwrap();
        let live = url.join(&attributes(&html, "data-live")[0]).unwrap();
        let mut live = site.client.get(live).send().await.unwrap();
        let update = live.chunk().await.unwrap().expect("an event");
        let update = String::from_utf8_lossy(&update).replace("\\\"", "\"");
        let id = format!("call-{}", running.id);
        let (_, rest) = update.split_once(&id).expect("the call");
        let link = &attributes(rest, "href")[0];
        assert!(html.contains(&format!("href=\"{link}\"")), "{link}");
    }
}
