//! Programs that nobody would write on purpose (programs/nasty.py), and what must hold of each, in
//! each way to run one: its caller has its answer in time, and then it ends, or is counted for as
//! long as it cannot be ended. This is the table of `guide::what_stops`, program by program.
//! What is written of worker processes is held to in nasty_workers.rs.

use std::{env, os::unix::process::ExitStatusExt, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_dspy::{Deadline, DspyService, Error, Health, Host, PredictRequest, Prediction};

use crate::support::{again, ask, eventually, host_alone, load, question, start};

/// Until a call that does not end by itself is given up, from when it has said that it has begun: it
/// is to be in the midst of what it does, of which Rust cannot hear.
const BRIEF: Duration = Duration::from_millis(200);
/// The limit of a call that ends by itself, and of what is waited for.
const LONG: Duration = Duration::from_secs(30);

/// What must hold of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Must {
    /// It answers.
    Answer,
    /// Its call fails with this Python exception, and no other call does.
    Fail(&'static str),
    /// It is ended once its caller has given up, and says this.
    End(&'static [&'static str]),
    /// It says this, is not ended, and is counted until the test releases it.
    Stay(&'static [&'static str]),
    /// It is not ended, and is counted for longer than a test waits.
    Outlast,
    /// It ends the process, with this status or by this signal.
    Die(Option<i32>, Option<i32>),
    /// It cannot be written so.
    NotBe,
}
use Must::{Answer, Die, End, Fail, NotBe, Outlast, Stay};

/// What must hold of it in a worker process, on the loop and on a thread there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum InWorker {
    /// The same, and the worker works on.
    Keep,
    /// The worker is killed once the grace is over.
    Kill,
    /// The worker ends, and the call's error says how.
    Lose(&'static str),
}
use InWorker::{Keep, Kill, Lose};

/// A program, and what must hold of it on the loop, on a thread, and in a worker.
pub(crate) type Row = (&'static str, Must, Must, InWorker);

pub(crate) const PROGRAMS: &[Row] = &[
    ("answers", Answer, Answer, Keep),
    // A wait is ended, and no line after it runs.
    ("sleeps", End(&[]), End(&[]), Keep),
    ("sleeps_a_minute", End(&[]), End(&[]), Keep),
    ("waits_for_a_socket", End(&[]), End(&[]), Keep),
    ("waits_for_an_event", End(&[]), End(&[]), Keep),
    (
        "waits_in_finally",
        End(&["cleaned"]),
        End(&["cleaned"]),
        Keep,
    ),
    // But for these. Their exception waits for them.
    ("waits_for_a_lock", Stay(&[]), Stay(&[]), Kill),
    ("reads_a_pipe", Stay(&[]), Stay(&[]), Kill),
    ("holds_the_gil", Stay(&[]), Stay(&[]), Kill),
    ("matches_forever", End(&[]), End(&[]), Keep),
    // Python code is broken off; its clean-up runs to the end, also where it takes its time.
    ("spins", End(&["cleaned"]), End(&["cleaned"]), Keep),
    (
        "sleeps_in_finally",
        End(&["cleaned"]),
        End(&["cleaned"]),
        Keep,
    ),
    ("computes_in_finally", End(&["cleaned"]), NotBe, Keep),
    ("catches_exceptions", End(&[]), End(&[]), Keep),
    // Whoever catches everything goes on. On the loop nobody else does.
    (
        "swallows_all",
        Stay(&["swallowed"]),
        Stay(&["swallowed"]),
        Kill,
    ),
    ("shields", End(&["cleaned"]), NotBe, Keep),
    ("swallows_cancel", Stay(&["swallowed"]), NotBe, Kill),
    // Its one signal was its cancellation: the loop is held up until it is told once more.
    (
        "swallows_and_spins",
        End(&["swallowed", "cleaned"]),
        NotBe,
        Keep,
    ),
    (
        "leaves_a_busy_thread",
        End(&["cleaned"]),
        End(&["cleaned"]),
        Keep,
    ),
    // On the loop the join is what cannot be broken off, but the thread is ended and with it that.
    (
        "joins_a_busy_thread",
        End(&["cleaned"]),
        End(&["cleaned"]),
        Keep,
    ),
    ("exits", Fail("SystemExit"), Fail("SystemExit"), Keep),
    (
        "recurses",
        Fail("RecursionError"),
        Fail("RecursionError"),
        Keep,
    ),
    (
        "recurses_in_c",
        Fail("RecursionError"),
        Fail("RecursionError"),
        Keep,
    ),
    ("stops_the_loop", Answer, Fail("RuntimeError"), Keep),
    ("runs_a_loop", Fail("RuntimeError"), Answer, Keep),
];

/// Those that are given a process of their own, also where they run in it.
pub(crate) const APART: &[Row] = &[
    // The child is no second host.
    ("forks", Answer, Answer, Keep),
    ("forks_and_waits", Answer, NotBe, Keep),
    // What is printed goes where the process prints; a worker's goes to the log.
    ("prints_megabytes", Answer, Answer, Keep),
    ("allocates", Fail("MemoryError"), Fail("MemoryError"), Keep),
    ("sleeps_a_minute_in_c", Outlast, Outlast, Kill),
    // Nothing in a process keeps these out.
    (
        "ends_the_process",
        Die(Some(7), None),
        Die(Some(7), None),
        Lose("exit status: 7"),
    ),
    (
        "kills_the_process",
        Die(None, Some(9)),
        Die(None, Some(9)),
        Lose("signal: 9 (SIGKILL)"),
    ),
    (
        "crashes",
        Die(None, Some(11)),
        Die(None, Some(11)),
        Lose("signal: 11 (SIGSEGV)"),
    ),
];

/// One call of a program, and the program's side of the connection.
pub(crate) struct Run {
    pub(crate) answer: Result<Prediction, Error>,
    peer: BufReader<TcpStream>,
}

impl Run {
    pub(crate) async fn new(program: &DspyService, must: Must) -> Self {
        let ends = matches!(must, Answer | Fail(_) | Die(..) | NotBe);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let request = PredictRequest::new(json!({"port": port}));
        let (limit, token) = (Deadline::within(LONG), CancellationToken::new());
        let request = request.with_deadline(limit).with_cancel(token.clone());
        let (answer, peer) = tokio::join!(program.clone().oneshot(request), async {
            let accepted = timeout(LONG, listener.accept()).await;
            let (peer, _) = accepted.expect("the program to connect").unwrap();
            let mut peer = BufReader::new(peer);
            if !ends {
                assert_eq!(next_line(&mut peer).await, "begun", "{must:?}");
                sleep(BRIEF).await;
                token.cancel();
            }
            peer
        });
        Self { answer, peer }
    }

    /// Its answer is what it must be, and it says what it must say.
    pub(crate) async fn holds(&mut self, name: &str, must: Must) {
        match (must, &self.answer) {
            (Answer, Ok(_)) => {}
            (Fail(expected), Err(Error::Program(error))) => {
                assert_eq!(error.python_type(), expected, "{name}");
            }
            // It has to be stopped also where it left something behind and answered.
            (End(said), Ok(_) | Err(Error::Cancelled(_)))
            | (Stay(said), Err(Error::Cancelled(_))) => self.hears(name, said).await,
            (Outlast, Err(Error::Cancelled(_))) => {}
            _ => panic!("{name} must {must:?}: {:?}", self.answer),
        }
    }

    /// Reads what the program says, which has to be this.
    async fn hears(&mut self, name: &str, lines: &[&str]) {
        for expected in lines {
            assert_eq!(next_line(&mut self.peer).await, *expected, "{name}");
        }
    }
}

/// What a program says next; empty if it says nothing more.
async fn next_line(peer: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    // Nothing in time is no line either.
    let _ = timeout(LONG, peer.read_line(&mut line)).await;
    line.trim_end().to_owned()
}

async fn check(host: &Host, name: &str, must: Must) {
    if let NotBe = must {
        return;
    }
    let program = load(host, name, "nasty").await;
    let mut run = Run::new(&program, must).await;
    run.holds(name, must).await;
    if let Stay(_) | Outlast = must {
        let counted = (program.in_flight(), host.stats().orphans);
        assert_eq!(counted, (1, 1), "{name}");
    }
    if let Outlast = must {
        return;
    }
    drop(run);
    eventually(name, || program.in_flight() == 0).await;
    eventually(name, || host.health() == Health::Ready).await;
    eventually(name, || host.stats().orphans == 0).await;
    // The host is none the worse for it.
    question(host, "nasty")
        .await
        .oneshot(ask("?"))
        .await
        .unwrap();
}

#[tokio::test]
async fn each_program_on_the_loop_meets_its_expectation() {
    let host = host_alone().await;
    for (name, on_loop, ..) in PROGRAMS {
        check(&host, &format!("nasty:Async.{name}"), *on_loop).await;
    }
}

#[tokio::test]
async fn each_program_on_a_thread_meets_its_expectation() {
    let host = host_alone().await;
    for (name, _, on_thread, _) in PROGRAMS {
        check(&host, &format!("nasty:Sync.{name}"), *on_thread).await;
    }
}

/// Which of those apart a process of its own is to run.
const PROGRAM: &str = "TOWER_DSPY_TEST_PROGRAM";

#[tokio::test]
async fn each_program_in_its_own_process_meets_its_expectation() {
    let test = "nasty::each_program_in_its_own_process_meets_its_expectation";
    let each = APART.iter().flat_map(|(name, on_loop, on_thread, _)| {
        let on_loop = (format!("nasty:Async.{name}"), *on_loop);
        [on_loop, (format!("nasty:Sync.{name}"), *on_thread)]
    });
    for (name, must) in each.filter(|(_, must)| !matches!(must, NotBe)) {
        let Some(output) = again(test, &[(PROGRAM, &name)]).await else {
            // This is that process.
            if env::var(PROGRAM).is_ok_and(|program| program == name) {
                return check(&start().await, &name, must).await;
            }
            continue;
        };
        let status = (output.status.code(), output.status.signal());
        let said = String::from_utf8_lossy(&output.stderr);
        let expected = match must {
            Die(code, signal) => (code, signal),
            _ => (Some(0), None),
        };
        assert_eq!(status, expected, "{name}: {said}");
        let printed = &output.stdout;
        // A name that is misspelt would run nothing, and pass.
        let ran = String::from_utf8_lossy(printed).contains("test result: ok. 1 passed");
        assert!(ran || matches!(must, Die(..)), "{name}");
        if name.ends_with("prints_megabytes") {
            assert!(printed.len() > 8 << 20, "{} bytes", printed.len());
        }
    }
}

#[tokio::test]
async fn each_program_of_the_corpus_has_an_expectation() {
    let source = include_str!("programs/nasty.py");
    let programs = source.lines().filter_map(|line| {
        let rest = line.strip_prefix("async ").unwrap_or(line);
        let (name, rest) = rest.strip_prefix("def ")?.split_once('(')?;
        rest.starts_with("port: int").then_some(name)
    });
    let mut count = 0;
    for name in programs {
        let mut listed = PROGRAMS.iter().chain(APART);
        assert!(listed.any(|(listed, ..)| *listed == name), "{name}");
        count += 1;
    }
    assert_eq!(count, PROGRAMS.len() + APART.len());
}
