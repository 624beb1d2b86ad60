//! The table of cases: the programs, the providers' dialects, and the faults of the LM.

use std::time::Duration;

use tower_dspy::testing::scripted_lm::Reply;

use crate::support::HOUR;

/// A program of `traffic.py`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    /// LM calls, one after the other; the last of them meets the fault.
    pub(super) calls: usize,
    /// Calls that it makes at once.
    pub(super) width: usize,
    /// How often it asks, if asking fails: more than once means that it answers in any case.
    pub(super) tries: usize,
    /// Whether it makes an answer of a failure.
    pub(super) answers: bool,
    /// Whether it runs on a thread of the host's, of which there are few.
    pub(super) threaded: bool,
}

const fn program(name: &'static str, calls: usize) -> Program {
    Program {
        name,
        calls,
        width: 1,
        tries: 1,
        answers: false,
        threaded: false,
    }
}

const fn on_a_thread(name: &'static str, calls: usize) -> Program {
    let threaded = true;
    Program {
        threaded,
        ..program(name, calls)
    }
}

const fn forgiving(program: Program, width: usize, tries: usize) -> Program {
    let answers = true;
    Program {
        width,
        tries,
        answers,
        ..program
    }
}

pub(super) const PROGRAMS: [Program; 13] = [
    program("predict", 1),
    program("chain_of_thought", 1),
    program("Steps", 3),
    program("react_with_a_sync_tool", 3),
    program("react_with_an_async_tool", 3),
    program("catches_cancelled", 1),
    forgiving(program("catches_exceptions", 1), 1, 2),
    forgiving(on_a_thread("catches_exceptions_on_a_thread", 1), 1, 2),
    forgiving(on_a_thread("parallel", 1), 2, 1),
    on_a_thread("sync_predict", 1),
    on_a_thread("sync_chain_of_thought", 1),
    on_a_thread("sync_steps", 3),
    on_a_thread("sync_react", 3),
];

/// Providers, one for each dialect of the scripted LM.
pub(super) const PROVIDERS: [&str; 3] = ["openai", "anthropic", "gemini"];

/// How a case is to end.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// Its deadline passes.
    Deadline,
    /// Its token is cancelled once the LM is asked.
    Cancelled,
    /// Its future is dropped once the LM is asked.
    Dropped,
    Answer,
    /// The LM's failure comes out.
    Failure {
        status: Option<u16>,
        retry_after: Option<Duration>,
    },
}

/// What becomes of a call of the LM.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) name: &'static str,
    /// `None` where nobody listens.
    pub(super) reply: Option<fn() -> Reply>,
    pub(super) end: End,
    /// Requests that an LM call may cost: the LM has a retry layer of one retry.
    pub(super) requests: usize,
}

const fn fault(name: &'static str, reply: fn() -> Reply, end: End, requests: usize) -> Fault {
    Fault {
        name,
        reply: Some(reply),
        end,
        requests,
    }
}

const fn failure(status: Option<u16>, retry_after: Option<Duration>) -> End {
    End::Failure {
        status,
        retry_after,
    }
}

/// An answer in full, of whatever is asked.
pub(super) fn good() -> Reply {
    Reply::fields([("reasoning", "so"), ("answer", "Paris")])
}

pub(super) const FAULTS: [Fault; 11] = [
    fault("no-byte", Reply::hang, End::Deadline, 1),
    fault(
        "drip",
        || good().trickle(Duration::from_millis(50)),
        End::Deadline,
        1,
    ),
    fault("cancel-no-byte", Reply::hang, End::Cancelled, 1),
    fault("cancel-in-body", || good().trickle(HOUR), End::Cancelled, 1),
    fault("drop-in-body", || good().trickle(HOUR), End::Dropped, 1),
    fault(
        "429-short",
        || Reply::status(429).retry_after(1),
        End::Answer,
        2,
    ),
    fault(
        "429-long",
        || Reply::status(429).retry_after(3600),
        failure(Some(429), Some(HOUR)),
        1,
    ),
    fault("500", || Reply::status(500), failure(Some(500), None), 2),
    fault("garbage", Reply::garbage, failure(Some(200), None), 1),
    fault("cut", || good().cut_after(20), failure(None, None), 1),
    Fault {
        name: "refused",
        reply: None,
        end: failure(None, None),
        requests: 0,
    },
];

/// The replies to one run of `program` that meets `fault`.
pub(super) fn script(program: &Program, fault: &Fault) -> Vec<Reply> {
    let react = |tool: &str, arguments: &str| {
        Reply::fields([
            ("next_thought", "hm"),
            ("next_tool_name", tool),
            ("next_tool_args", arguments),
        ])
    };
    let look_up = |tool| vec![react(tool, r#"{"word": "Paris"}"#), react("finish", "{}")];
    let mut replies = match program.name {
        "react_with_an_async_tool" => look_up("look_up_async"),
        "react_with_a_sync_tool" | "sync_react" => look_up("look_up"),
        _ => vec![good(); program.calls - 1],
    };
    let reply = fault.reply.unwrap_or(good);
    replies.extend((0..program.width).map(|_| reply()));
    if matches!(fault.end, End::Answer) {
        replies.push(good());
    }
    replies
}
