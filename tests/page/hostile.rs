//! Names from outside that are no names.

use tower_dspy::{RetryBudget, Tracker, page::DebugPage};

use crate::support::{LONG, Site, Work, answered, attributes, calls, make, under_way};

const NAMES: [&str; 7] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "a\r\nset-cookie: b=c\r\n\r\n<p>",
    "data: x\n\nevent: last\ndata: {}",
    "&lt;b&gt; \u{202e}gnal \u{0}",
    "../../etc/passwd?calls=late#%2e%2e",
];

#[tokio::test]
async fn names_are_text_wherever_they_are() {
    let tracker = Tracker::new();
    let page = DebugPage::new(tracker.clone()).retry_budget(NAMES[0], &RetryBudget::default());
    let site = Site::of(page).await;
    let mut ids = Vec::new();
    for name in NAMES {
        let calls = calls(&tracker, name);
        ids.push(answered(&calls, Work::Answer, LONG).await);
        ids.push(make(&calls, Work::Hang, LONG).id);
    }
    under_way(&tracker, NAMES.len()).await;
    let index = site.read("").await;
    let mut pages = vec![index.clone()];
    let links = attributes(&index, "href");
    let cells: Vec<_> = links
        .iter()
        .filter(|link| link.contains("/samples?"))
        .collect();
    assert_eq!(cells.len(), 2 * NAMES.len());
    for cell in cells {
        let page = site.read(cell.trim_start_matches("./calls")).await;
        assert!(
            page.contains("1 call."),
            "its link names the program: {cell}"
        );
        pages.push(page);
    }
    for id in ids {
        pages.push(site.read(&format!("/{id}")).await);
    }
    for page in pages {
        let lower = page.to_lowercase();
        assert_eq!(lower.matches("<script").count(), 1);
        assert!(!lower.contains("<img") && !lower.contains("<p>set-cookie"));
        assert!(!page.contains('\u{202e}') && !page.contains('\u{0}'));
        // A quote that is not escaped would end an attribute.
        assert!(!lower.contains("\" onmouseover") && !lower.contains("=' onmouseover"));
        assert!(!lower.contains("\"><img") && !lower.contains("\" onerror"));
    }
    let text = site.read("/page.txt").await;
    assert!(!text.contains('\r') && !text.contains('\u{202e}') && !text.contains("\nevent:"));
}

#[tokio::test]
async fn an_update_is_one_event_whatever_is_in_it() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone())).await;
    for name in NAMES {
        answered(&calls(&tracker, name), Work::Answer, LONG).await;
    }
    let mut live = site.get("/live").await;
    let mut seen = String::new();
    while !seen.contains("\n\n") {
        let chunk = live.chunk().await.unwrap().expect("an event");
        seen.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let event = seen.split("\n\n").next().unwrap();
    let lines: Vec<_> = event.lines().collect();
    let [name, data] = lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(name, "event: sections");
    let data = data.strip_prefix("data: ").unwrap();
    let sections: serde_json::Value = serde_json::from_str(data).unwrap();
    let programs = sections["programs"].as_str().unwrap();
    assert!(programs.contains("&lt;script&gt;") && !programs.contains("<script"));
}
