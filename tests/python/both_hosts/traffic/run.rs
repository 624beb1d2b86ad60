//! One case: a program, a dialect and a fault, and the checks that hold for all.

use std::time::Duration;

use tokio::{net::TcpSocket, time::Instant};
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt, util::MapRequestLayer};
use tower_dspy::{
    Backoff, Classify, Deadline, Error, ErrorKind, Host, Lm, Prediction, RetryLayer,
    lm::{LmClient, LmLog, LmRequest},
    testing::scripted_lm::{Outcome, RequestRecord, ScriptedLm},
};

use super::table::{End, Fault, Program, script};
use crate::support::{ask, eventually, nowhere};

/// Of a case that is to run into it. One that does not get to the LM's fault in that time, as on a
/// busy machine, is run again with the next.
const DEADLINES: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(16),
];

/// Of all others. It leaves no room for a `Retry-After` of an hour.
const AMPLE: Duration = Duration::from_secs(20);

/// How late anything may be; what was not stopped would go on for an hour.
const SLACK: Duration = Duration::from_secs(10);

/// How long after the deadline a request may count as sent: the LM runtime may stand still between the
/// check of the deadline and the reading of the clock. An extra request is found by the count of requests.
/// An expected one that is sent late, but within this time, is not found.
const SENT_SLACK: Duration = Duration::from_secs(1);

/// What is wrong with a case.
enum Wrong {
    /// Its deadline passed before it was at the LM's fault.
    TooBusy,
    Found(String),
}

impl From<String> for Wrong {
    fn from(found: String) -> Self {
        Self::Found(found)
    }
}

/// What all cases share.
pub(super) struct Room<'a> {
    host: &'a Host,
    server: &'a ScriptedLm,
    client: LmClient,
    /// Where nobody listens.
    nowhere: (TcpSocket, String),
}

impl<'a> Room<'a> {
    pub(super) fn new(host: &'a Host, server: &'a ScriptedLm) -> Self {
        // Keeps no connection, so that each one that is open is at work.
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .pool_max_idle_per_host(0)
            .build()
            .expect("a client");
        Self {
            host,
            server,
            client: LmClient::from_reqwest(client),
            nowhere: nowhere(),
        }
    }

    /// Runs a case; what is wrong with it, if anything is.
    pub(super) async fn run(
        &self,
        program: &Program,
        provider: &str,
        fault: &Fault,
    ) -> Option<String> {
        let model = format!("{provider}-{}-{}", program.name, fault.name);
        let limits = match fault.end {
            End::Deadline => &DEADLINES[..],
            _ => &[AMPLE],
        };
        for limit in limits {
            // Replies are counted by the name.
            let name = format!("{model}-{}", limit.as_secs());
            match self.wrong(program, provider, fault, &name, *limit).await {
                Ok(()) => return None,
                Err(Wrong::Found(wrong)) => return Some(format!("{name}: {wrong}")),
                Err(Wrong::TooBusy) => {}
            }
        }
        Some(format!("{model}: it did not get to the LM's fault in time"))
    }

    async fn wrong(
        &self,
        program: &Program,
        provider: &str,
        fault: &Fault,
        model: &str,
        limit: Duration,
    ) -> Result<(), Wrong> {
        let server = self.server;
        let base_url = if fault.reply.is_some() {
            server.base_url()
        } else {
            &self.nowhere.1
        };
        let retry = RetryLayer::new(1).with_backoff(Backoff::fixed(Duration::from_millis(10)));
        // Takes down what is sent also when the call that it is sent for has ended.
        let (log_made, log) = (Instant::now(), LmLog::default());
        let logged = log.clone();
        let put_down = MapRequestLayer::new(move |mut request: LmRequest| {
            request.extensions_mut().insert(logged.clone());
            request
        });
        let lm = Lm::new(format!("{provider}/{model}"))
            .base_url(base_url)
            .key("test-key")
            .http(self.client.clone())
            .layer(retry)
            .layer(put_down);
        server.script(model, script(program, fault));
        let load = self.host.load(format!("traffic:{}", program.name)).lm(lm);
        let service = load.await.map_err(|error| error.to_string())?;

        let (deadline, token) = (Deadline::within(limit), CancellationToken::new());
        let request = ask("?").with_deadline(deadline).with_cancel(token.clone());
        let call = tokio::spawn(service.clone().oneshot(request));
        let asked = program.calls - 1 + program.width;
        let (ended, outcome) = match fault.end {
            End::Cancelled | End::Dropped => {
                let all_here = |all: &[RequestRecord]| all.len() == asked;
                let here = server.wait_for(model, all_here).await;
                here.map_err(|error| error.to_string())?;
                let ended = Instant::now();
                if matches!(fault.end, End::Cancelled) {
                    token.cancel();
                } else {
                    call.abort();
                }
                (Some(ended), call.await.ok())
            }
            End::Deadline => (Some(deadline.instant()), call.await.ok()),
            End::Answer | End::Failure { .. } => (None, call.await.ok()),
        };
        let returned = Instant::now();
        eventually(model, || service.in_flight() == 0).await;
        let all_over = |all: &[RequestRecord]| all.iter().all(|r| r.ended().is_some());
        let requests = server.wait_for(model, all_over).await;
        let requests = requests.map_err(|error| error.to_string())?;

        outcome_of(program, fault, outcome)?;
        if matches!(fault.end, End::Deadline) && requests.len() < asked {
            return Err(Wrong::TooBusy);
        }
        counts(program, fault, &requests)?;
        let Some(ended) = ended else { return Ok(()) };
        let calls = log.calls();
        let sent = calls.iter().filter_map(|call| call.sent);
        if sent.clone().count() < requests.len() {
            return Err("requests that nobody sent".to_owned().into());
        }
        let slack = match fault.end {
            End::Deadline => SENT_SLACK,
            _ => Duration::ZERO,
        };
        let late = sent.max().map(|sent| log_made + sent);
        if let Some(late) = late.filter(|sent| *sent > ended + slack) {
            let late = late - ended;
            return Err(format!("a request was sent {late:?} after the end").into());
        }
        Ok(in_time(ended, returned, &requests)?)
    }
}

/// Whether the call came to what it was to come to.
fn outcome_of(
    program: &Program,
    fault: &Fault,
    outcome: Option<Result<Prediction, Error>>,
) -> Result<(), String> {
    let answer = |expected: &str| match &outcome {
        Some(Ok(prediction)) if prediction.outputs["answer"] == expected => Ok(()),
        _ => Err(format!("no answer `{expected}`: {outcome:?}")),
    };
    let held = match (fault.end, &outcome) {
        (End::Answer, _) => return answer("Paris"),
        (End::Failure { .. }, _) if program.answers => return answer("failed"),
        (End::Deadline, Some(Err(error @ Error::Elapsed(_)))) => {
            error.kind() == ErrorKind::Deadline
        }
        (End::Cancelled, Some(Err(error))) => error.kind() == ErrorKind::Cancelled,
        (End::Dropped, None) => true,
        (
            End::Failure {
                status,
                retry_after,
            },
            Some(Err(error @ Error::Lm(failure))),
        ) => {
            error.kind() == ErrorKind::LmUnavailable
                && failure.status() == status
                && error.retry_after() == retry_after
        }
        _ => false,
    };
    let said = outcome.map(|outcome| match outcome {
        Ok(answer) => format!("{:?}", answer.outputs),
        Err(error) => format!("{error:?}: {error}"),
    });
    held.then_some(())
        .ok_or_else(|| format!("not {:?}: {said:?}", fault.end))
}

/// Whether no more was sent than was allowed, and no less than it takes.
fn counts(program: &Program, fault: &Fault, requests: &[RequestRecord]) -> Result<(), String> {
    let before = if fault.reply.is_some() {
        program.calls - 1
    } else {
        0
    };
    let tries = match fault.end {
        End::Failure { .. } => program.tries,
        _ => 1,
    };
    let most = before + fault.requests * tries * program.width;
    let exact = program.width == 1 && !matches!(fault.end, End::Deadline);
    let least = match fault.reply {
        None => 0,
        Some(_) if exact => most,
        Some(_) => 1,
    };
    let sent = requests.len();
    (least..=most)
        .contains(&sent)
        .then_some(())
        .ok_or_else(|| format!("{sent} requests, not {least} to {most}"))
}

/// Whether the end of a call at `ended` stopped all that it was about.
fn in_time(ended: Instant, returned: Instant, requests: &[RequestRecord]) -> Result<(), String> {
    let over = returned.saturating_duration_since(ended);
    if returned < ended || over > SLACK {
        return Err(format!("it returned {over:?} late, or early"));
    }
    for request in requests {
        let n = request.n;
        let gone = request.outcome == Outcome::ClientGone;
        if gone && request.client_gone.is_some_and(|at| at > ended + SLACK) {
            return Err(format!("request {n} went late"));
        }
    }
    let gone = |r: &RequestRecord| r.outcome == Outcome::ClientGone;
    if !requests.iter().any(gone) {
        return Err("no request was broken off".to_owned());
    }
    Ok(())
}
