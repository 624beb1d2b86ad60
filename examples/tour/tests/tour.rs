//! The tour, as a newcomer runs it.

use std::{
    fs,
    process::{Command, Output},
};

use tower_dspy::{
    host::env::PythonEnv,
    testing::scripted_lm::{Reply, ScriptedLm},
};

/// The milliseconds in which calls reach the LM on a busy machine too.
const LIMIT: &str = "1000";

fn run(args: &[&str]) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tower-dspy-tour"))
        .args(args)
        .env_remove("RUST_LOG")
        .output()
        .expect("the tour's binary runs");
    let shown = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output, shown)
}

/// Makes the venv of the workspace if there is none that fits: the doctor only looks at it.
fn make_venv() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    PythonEnv::create(format!("{root}/.venv"))
        .run_blocking()
        .expect("a venv");
}

#[test]
fn thirteen_scenes_are_ok_and_no_request_is_left_behind() {
    let report = concat!(env!("CARGO_TARGET_TMPDIR"), "/tour/report.html");
    let _ = fs::remove_file(report);
    let (output, shown) = run(&["--limit", LIMIT, "--report", report]);
    assert!(output.status.success(), "{shown}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(
        lines[lines.len() - 2..],
        [
            "figure tour_scenes_ok 13 count",
            "figure tour_orphaned_lm_requests 0 count"
        ],
        "{shown}"
    );
    assert!(shown.contains(report), "{shown}");
    check_report(&fs::read_to_string(report).expect("a report"));
    // Without a terminal a long step is a line at its begin and one at its end.
    let stderr = String::from_utf8_lossy(&output.stderr);
    let step = "starting Python and importing DSPy";
    let lines = stderr.lines().filter(|line| line.starts_with(step));
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert_eq!(lines[0], format!("{step} ..."));
    assert!(
        lines[1].starts_with(&format!("{step}: done after ")),
        "{stderr}"
    );
    assert!(!stderr.contains(['\u{1b}', '\r']), "{stderr}");
}

/// Each scene has its timelines, and its naive calls leave more work behind than the others do.
fn check_report(report: &str) {
    let sections: Vec<_> = report.split("<section").skip(1).collect();
    assert_eq!(sections.len(), 14, "thirteen scenes and the comparison");
    for (at, section) in sections.iter().enumerate() {
        assert!(section.contains("<svg"), "{section}");
        let (naive, ours) = work_for_nobody(section);
        // Those that show stale answers and worker processes have no naive calls, and say why.
        let has_none = [7, 11].contains(&at);
        assert_eq!(section.contains("No naive side: "), has_none, "{section}");
        assert_eq!(naive.is_empty(), has_none, "{section}");
        assert!(!ours.is_empty(), "{section}");
        let most = |lengths: Vec<f64>| lengths.into_iter().fold(0.0, f64::max);
        let (naive, ours) = (most(naive), most(ours));
        assert!(
            has_none || naive > ours,
            "scene {}: {naive} ms beside {ours} ms",
            at + 1
        );
    }
    // The naive call of this scene never ends.
    assert!(sections[10].contains("Work for nobody goes on"));
    // It needs no network, and no script.
    for outside in ["<script", "src=", "@import", "url(http"] {
        assert!(!report.contains(outside), "{outside}");
    }
}

/// The milliseconds of work for nobody in a scene: of its naive calls, and of the others.
fn work_for_nobody(section: &str) -> (Vec<f64>, Vec<f64>) {
    let (mut naive, mut ours) = (Vec::new(), Vec::new());
    for figure in section.split("<figure").skip(1) {
        let (_, caption) = figure.split_once("<h3>").expect("a caption");
        let (_, gist) = figure.split_once("class=\"gist\">").expect("a gist");
        let (gist, _) = gist.split_once("</p>").expect("an end of the gist");
        let (_, work) = gist.split_once("Work for nobody").expect("work for nobody");
        let work = work.trim_start_matches(": ").trim_end_matches('.');
        let work = work
            .trim_start_matches(" goes on, ")
            .trim_end_matches(" so far");
        match caption.starts_with("naive: ") {
            true => naive.push(milliseconds(work)),
            false => ours.push(milliseconds(work)),
        }
    }
    (naive, ours)
}

/// `none`, `under 0.1 ms`, `12.3 ms`, `2.15 s` or `1 min 7 s`.
fn milliseconds(length: &str) -> f64 {
    if length == "none" {
        return 0.0;
    }
    let words: Vec<_> = length.trim_start_matches("under ").split(' ').collect();
    let parts = words.chunks(2).map(|part| {
        let number: f64 = part[0].parse().unwrap_or_else(|_| panic!("`{length}`"));
        number
            * match part[1] {
                "ms" => 1.0,
                "s" => 1e3,
                "min" => 60e3,
                other => panic!("the unit `{other}`"),
            }
    });
    parts.sum()
}

/// A model whose answers do not parse stands for a small real one.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_model_whose_answers_do_not_parse_is_not_called_wrong() {
    let lm = ScriptedLm::start().await.expect("a server");
    lm.script("small", Reply::content("I cannot say."));
    let report = concat!(env!("CARGO_TARGET_TMPDIR"), "/tour/unparsed.html");
    let (url, model) = (lm.base_url().to_owned(), "small");
    let real = ["--lm", &url, "--model", model];
    let (output, shown) = run(&[&real[..], &["--limit", LIMIT, "--report", report]].concat());
    assert!(output.status.success(), "{shown}");
    assert!(!shown.contains("WRONG"), "{shown}");
    assert!(
        shown.contains("NOT SHOWN: the model's answer did not parse ("),
        "{shown}"
    );
    let not_shown = shown.matches("NOT SHOWN: ").count();
    let ok = shown.matches("ok (LM side not checked)").count();
    assert_eq!(not_shown + ok, 13, "{shown}");
    for figure in [
        format!("figure tour_scenes_ok {ok} count"),
        format!("figure tour_scenes_not_shown {not_shown} count"),
    ] {
        assert!(shown.contains(&figure), "{shown}");
    }
}

#[test]
fn the_picture_is_written_for_light_and_dark_pages_from_measured_times() {
    let folder = concat!(env!("CARGO_TARGET_TMPDIR"), "/tour/picture");
    let _ = fs::remove_dir_all(folder);
    let (output, shown) = run(&["picture", folder, "--limit", LIMIT]);
    assert!(output.status.success(), "{shown}");
    for theme in ["light", "dark"] {
        let svg = fs::read_to_string(format!("{folder}/timeline-{theme}.svg")).expect("a picture");
        let svg = roxmltree::Document::parse(&svg).expect("well-formed XML");
        let texts = svg.descendants().filter(|node| node.has_tag_name("text"));
        let texts: Vec<_> = texts.filter_map(|text| text.text()).collect();
        let paid = texts
            .iter()
            .filter(|text| text.ends_with(" paid for nobody"));
        let [naive, ours] = paid.collect::<Vec<_>>()[..] else {
            panic!("{texts:?}");
        };
        let tokens = |text: &str| text.split(' ').next().and_then(|n| n.parse::<u32>().ok());
        assert!(tokens(naive) > tokens(ours), "{texts:?}");
        assert!(
            texts
                .iter()
                .any(|text| text.starts_with("connection closed ")),
            "{texts:?}"
        );
    }
}

#[test]
fn a_report_that_cannot_be_written_is_an_error_at_once() {
    let (output, shown) = run(&["--report", "/dev/null/report.html"]);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("/dev/null/report.html"), "{shown}");
    assert!(output.stdout.is_empty(), "{shown}");
}

#[test]
fn the_doctor_finds_nothing_wrong() {
    make_venv();
    let (output, shown) = run(&["doctor"]);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("all is well"), "{shown}");
}

#[test]
fn the_doctor_names_an_lm_that_is_not_there() {
    make_venv();
    // The discard port: nothing listens there.
    let (output, shown) = run(&["doctor", "--lm", "http://127.0.0.1:9/v1", "--model", "m"]);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("Is a server listening at"), "{shown}");
}

#[test]
fn what_it_does_not_know_is_an_error_with_the_usage() {
    for args in [
        &["nonsense"][..],
        &["--nonsense"],
        &["--lm", "http://127.0.0.1:9"],
        &["--model", "m"],
        &["--limit", "0"],
        &["--limit", "soon"],
        &["picture"],
        &[
            "picture",
            "folder",
            "--lm",
            "http://127.0.0.1:9",
            "--model",
            "m",
        ],
    ] {
        let (output, shown) = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {shown}");
        assert!(shown.contains("Usage:"), "{args:?}: {shown}");
    }
    let (output, shown) = run(&["--help"]);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("Usage:"), "{shown}");
}
