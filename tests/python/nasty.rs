//! Programs that nobody would write on purpose (programs/nasty.py), and what must hold of each:
//! its caller has its answer in time, and then it ends, or is counted for as long as it cannot be
//! ended. This is the README's table of what stops when, program by program.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tower::ServiceExt;
use tower_dspy::{Deadline, Error, Health, Host, PredictRequest, Prediction};

use crate::support::{ask, dies, eventually, host_alone, load, own_process, question, start};

/// The limit of a call that does not end by itself.
const BRIEF: Duration = Duration::from_millis(200);
/// The limit of one that does, and of what is waited for.
const LONG: Duration = Duration::from_secs(30);

/// What must hold of a program.
#[derive(Clone, Copy, Debug)]
enum Must {
    /// It answers.
    Answer,
    /// Its call fails with this Python exception, and no other call does.
    Fail(&'static str),
    /// It is ended once its caller has given up, and says this.
    End(&'static [&'static str]),
    /// It says this, is not ended, and is counted until the test releases it.
    Stay(&'static [&'static str]),
    /// It cannot be written so.
    NotBe,
}
use Must::{Answer, End, Fail, NotBe, Stay};

/// A program, what must hold of it on the loop, and on a thread.
const PROGRAMS: &[(&str, Must, Must)] = &[
    ("answers", Answer, Answer),
    // Nothing breaks C code off. Its exception waits for it: no line after it runs.
    ("sleeps", End(&[]), End(&[])),
    ("waits_in_c", Stay(&[]), Stay(&[])),
    ("holds_the_gil", Stay(&[]), Stay(&[])),
    ("matches_forever", End(&[]), End(&[])),
    // Python code is broken off; its clean-up runs to the end, also where it takes its time.
    ("spins", End(&["cleaned"]), End(&["cleaned"])),
    ("sleeps_in_finally", End(&["cleaned"]), End(&["cleaned"])),
    ("computes_in_finally", End(&["cleaned"]), NotBe),
    ("catches_exceptions", End(&[]), End(&[])),
    // Whoever catches everything goes on. On the loop nobody else does: only a worker process
    // could be killed.
    ("swallows_all", Stay(&["swallowed"]), Stay(&["swallowed"])),
    ("shields", End(&["cleaned"]), NotBe),
    ("swallows_cancel", Stay(&["swallowed"]), NotBe),
    // Its one signal was its cancellation: the loop is held up until it is told once more.
    ("swallows_and_spins", End(&["swallowed", "cleaned"]), NotBe),
    ("leaves_a_busy_thread", End(&["cleaned"]), End(&["cleaned"])),
    // On the loop the join is what cannot be broken off, but the thread is ended and with it that.
    ("joins_a_busy_thread", End(&["cleaned"]), End(&["cleaned"])),
    ("exits", Fail("SystemExit"), Fail("SystemExit")),
    ("recurses", Fail("RecursionError"), Fail("RecursionError")),
    (
        "recurses_in_c",
        Fail("RecursionError"),
        Fail("RecursionError"),
    ),
    ("stops_the_loop", Answer, Fail("RuntimeError")),
    ("runs_a_loop", Fail("RuntimeError"), Answer),
];

/// One call of a program, and the program's side of the connection.
struct Run {
    answer: Result<Prediction, Error>,
    peer: BufReader<TcpStream>,
}

impl Run {
    async fn new(program: &tower_dspy::DspyService, limit: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let request = PredictRequest::new(json!({"port": port}));
        let request = request.with_deadline(Deadline::within(limit));
        let (answer, accepted) = tokio::join!(
            program.clone().oneshot(request),
            timeout(LONG, listener.accept())
        );
        let (peer, _) = accepted.expect("the program to begin").unwrap();
        Self {
            answer,
            peer: BufReader::new(peer),
        }
    }

    /// Reads what the program says, which has to be this.
    async fn hears(&mut self, name: &str, lines: &[&str]) {
        for expected in lines {
            let mut line = String::new();
            let read = timeout(LONG, self.peer.read_line(&mut line)).await;
            read.unwrap_or_else(|_| panic!("{name} did not say `{expected}`"))
                .unwrap();
            assert_eq!(line.trim_end(), *expected, "{name}");
        }
    }
}

async fn check(host: &Host, name: &str, must: Must) {
    let limit = match must {
        Answer | Fail(_) => LONG,
        End(_) | Stay(_) => BRIEF,
        NotBe => return,
    };
    let program = load(host, name, "nasty").await;
    let mut run = Run::new(&program, limit).await;
    let answer = &run.answer;
    match (must, answer) {
        (Answer, Ok(_)) => {}
        (Fail(expected), Err(Error::Program(error))) => {
            assert_eq!(error.python_type(), expected, "{name}");
        }
        // It has to be stopped also where it left something behind and answered.
        (End(said), Ok(_) | Err(Error::Elapsed(_))) => run.hears(name, said).await,
        (Stay(said), Err(Error::Elapsed(_))) => {
            run.hears(name, said).await;
            assert_eq!(
                (program.in_flight(), host.stats().orphans),
                (1, 1),
                "{name}"
            );
        }
        _ => panic!("{name} must {must:?}: {answer:?}"),
    }
    if let Stay(_) = must {
        drop(run);
    }
    eventually(name, || program.in_flight() == 0).await;
    eventually(name, || host.health() == Health::Ready).await;
    assert_eq!(host.stats().orphans, 0, "{name}");
    // The host is none the worse for it.
    question(host, "nasty")
        .await
        .oneshot(ask("?"))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_must_hold_of_each_on_the_loop() {
    let host = host_alone().await;
    for (name, on_loop, _) in PROGRAMS {
        check(&host, &format!("nasty:Async.{name}"), *on_loop).await;
    }
}

#[tokio::test]
async fn what_must_hold_of_each_on_a_thread() {
    let host = host_alone().await;
    for (name, _, on_thread) in PROGRAMS {
        check(&host, &format!("nasty:Sync.{name}"), *on_thread).await;
    }
}

#[tokio::test]
async fn a_process_that_a_program_forks_is_no_second_host() {
    let name = "nasty::a_process_that_a_program_forks_is_no_second_host";
    if own_process(name).await.is_some() {
        return;
    }
    let host = start().await;
    for name in ["Async.forks", "Sync.forks", "Async.forks_and_waits"] {
        check(&host, &format!("nasty:{name}"), Answer).await;
    }
}

#[tokio::test]
async fn megabytes_of_prints_are_the_programs_own_affair() {
    let name = "nasty::megabytes_of_prints_are_the_programs_own_affair";
    if let Some(said) = own_process(name).await {
        assert!(said.len() > 16 << 20, "{} bytes", said.len());
        return;
    }
    let host = start().await;
    for name in ["Async.prints_megabytes", "Sync.prints_megabytes"] {
        check(&host, &format!("nasty:{name}"), Answer).await;
    }
}

/// What nothing in a process can keep out: a program that ends it. Only a process of its own would.
async fn takes_the_process_along(test: &str, program: &str) -> Option<(Option<i32>, Option<i32>)> {
    let name = format!("nasty::{test}");
    if let Some(status) = dies(&name).await {
        use std::os::unix::process::ExitStatusExt;
        return Some((status.code(), status.signal()));
    }
    let host = start().await;
    check(&host, program, Answer).await;
    None
}

#[tokio::test]
async fn an_exit_past_python_takes_the_process_along() {
    let test = "an_exit_past_python_takes_the_process_along";
    if let Some(status) = takes_the_process_along(test, "nasty:Sync.ends_the_process").await {
        assert_eq!(status, (Some(7), None));
    }
}

#[tokio::test]
async fn a_kill_takes_the_process_along() {
    let test = "a_kill_takes_the_process_along";
    if let Some(status) = takes_the_process_along(test, "nasty:Sync.kills_the_process").await {
        assert_eq!(status, (None, Some(9)));
    }
}

#[tokio::test]
async fn a_crash_takes_the_process_along() {
    let test = "a_crash_takes_the_process_along";
    if let Some(status) = takes_the_process_along(test, "nasty:Async.crashes").await {
        assert_eq!(status, (None, Some(11)));
    }
}

#[tokio::test]
async fn each_program_of_the_corpus_has_its_entry() {
    let source = include_str!("programs/nasty.py");
    let apart = [
        "forks",
        "forks_and_waits",
        "prints_megabytes",
        "ends_the_process",
    ];
    let apart = [&apart[..], &["kills_the_process", "crashes"]].concat();
    let programs = source.lines().filter_map(|line| {
        let rest = line.strip_prefix("async ").unwrap_or(line);
        let (name, rest) = rest.strip_prefix("def ")?.split_once('(')?;
        rest.starts_with("port: int").then_some(name)
    });
    let mut count = 0;
    for name in programs {
        let listed = PROGRAMS.iter().any(|(listed, ..)| *listed == name);
        assert!(listed || apart.contains(&name), "{name}");
        count += 1;
    }
    assert_eq!(count, PROGRAMS.len() + apart.len());
}
