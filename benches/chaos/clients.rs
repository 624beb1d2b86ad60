//! Callers: each makes one call after the other, of any program, over any way, with any limit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt;
use tower_dspy::{
    Classify, Deadline, Error, PredictRequest, Prediction, PredictionStream, StreamEvent,
    outbound::tonic::ProgramClient,
};

use crate::{
    outcomes::{CALM, Outcome, Outcomes},
    processes::wait_seconds,
    site::{Program, Site},
};

/// Longer than any call of these may take.
const LONG: Duration = Duration::from_secs(30);

/// What the callers of one host share.
pub(crate) struct Callers {
    site: &'static str,
    url: String,
    http: reqwest::Client,
    channel: Channel,
    programs: Vec<Program>,
    pub(crate) outcomes: Arc<Outcomes>,
    /// Without limits, leaving and cancelling.
    calm: bool,
}

/// The plan of one call.
struct Plan {
    program: Program,
    question: String,
    limit: Option<Duration>,
    leaves: Option<Duration>,
    /// The program waits for an hour, which only a limit or its caller ends.
    waits: bool,
    calm: bool,
    /// A pause between two events that are read.
    slow: Option<Duration>,
}

/// The failures that the faults of the run explain. A program's own are judged by their exceptions,
/// where the layers see them.
const FAILURES: [&str; 6] = [
    "deadline",
    "elapsed",
    "lm_unavailable",
    "lm_rejected",
    "overloaded",
    "program",
];

impl Plan {
    /// The outcome; `Wrong` if this call cannot have it.
    fn judge(&self, outcome: Outcome) -> Outcome {
        let fits = match &outcome {
            Outcome::Answered => !self.waits,
            Outcome::Cancelled => self.leaves.is_some(),
            // The layers' own limits hold in the calm stretch as well; how many passed is judged later.
            Outcome::Failed(kind) if self.calm => matches!(&**kind, "deadline" | "elapsed"),
            Outcome::Failed(kind) => FAILURES.contains(&&**kind),
            Outcome::Lost => !self.calm,
            _ => true,
        };
        match fits {
            true => outcome,
            false => Outcome::Wrong(format!(
                "{outcome:?} of {:?}, with a limit of {:?}",
                self.question, self.limit,
            )),
        }
    }
}

impl Callers {
    pub(crate) fn new(site: &Site, outcomes: &Arc<Outcomes>, calm: bool) -> Self {
        let url = format!("http://{}", site.address);
        let endpoint = Endpoint::from_shared(url.clone()).expect("an address");
        Self {
            site: site.name,
            url,
            http: reqwest::Client::new(),
            channel: endpoint.connect_lazy(),
            programs: site.programs.clone(),
            outcomes: outcomes.clone(),
            calm,
        }
    }

    /// Calls until told to stop.
    pub(crate) async fn drive(&self, mut random: fastrand::Rng, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let plan = self.plan(&mut random);
            let way = random.usize(..5);
            let what = format!("{} {} way {way}", self.site, plan.program.name);
            self.outcomes.begin(way < 4);
            let call = async {
                match way {
                    0 => self.http(&plan).await,
                    1 => self.http_stream(&plan).await,
                    2 => self.grpc(&plan).await,
                    3 => self.grpc_stream(&plan).await,
                    _ => self.direct(&plan, random.bool()).await,
                }
            };
            let leaves = plan.leaves.unwrap_or(LONG);
            let start = Instant::now();
            let outcome = match timeout(leaves, call).await {
                Ok(outcome) => outcome,
                Err(_) if plan.leaves.is_some() => Outcome::Cancelled,
                Err(_) => Outcome::Silent,
            };
            let program = if self.calm { CALM } else { plan.program.name };
            let what = format!("{what} after {:?}", start.elapsed());
            self.outcomes.end(&what, program, plan.judge(outcome));
        }
    }

    fn plan(&self, random: &mut fastrand::Rng) -> Plan {
        // From 2 ms to 4 s, each decade as often as another.
        let time = |random: &mut fastrand::Rng| {
            Duration::from_secs_f64(0.002 * 2000_f64.powf(random.f64()))
        };
        let unsteady = !self.calm;
        let program = self.programs[random.usize(..self.programs.len())].clone();
        let can_wait = unsteady && matches!(program.name, "waits" | "fan");
        let waits = can_wait && random.u8(0..10) < 3;
        let id = random.u64(..);
        Plan {
            program,
            question: match waits {
                true => format!("wait {} {id:x}", wait_seconds()),
                false => format!("what is {id:x}"),
            },
            waits,
            calm: self.calm,
            limit: (unsteady && random.u8(0..10) < 6).then(|| time(random)),
            leaves: (unsteady && random.u8(0..10) < 2).then(|| time(random)),
            slow: (random.u8(0..10) < 1).then(|| Duration::from_millis(20)),
        }
    }

    async fn http(&self, plan: &Plan) -> Outcome {
        let sent = self.post(plan).send().await;
        let response = match sent {
            Ok(response) => response,
            Err(error) => return Outcome::Cut(format!("{error:?}")),
        };
        let good = response.status().is_success();
        match response.json::<Value>().await {
            Err(error) => Outcome::Cut(format!("{error:?}")),
            Ok(answer) if good => checked(plan, &answer["outputs"]["answer"]),
            Ok(problem) => failed(&problem),
        }
    }

    fn post(&self, plan: &Plan) -> reqwest::RequestBuilder {
        let post = self
            .http
            .post(format!("{}/{}", self.url, plan.program.name));
        let post = post.json(&json!({"question": plan.question}));
        match plan.limit {
            Some(limit) => post.header("x-request-timeout", format!("{:.6}", limit.as_secs_f64())),
            None => post,
        }
    }

    async fn http_stream(&self, plan: &Plan) -> Outcome {
        let sent = self.post(plan).header("accept", "text/event-stream");
        let response = match sent.send().await {
            Ok(response) => response,
            Err(error) => return Outcome::Cut(format!("{error:?}")),
        };
        if !response.status().is_success() {
            return match response.json().await {
                Ok(problem) => failed(&problem),
                Err(error) => Outcome::Cut(format!("{error:?}")),
            };
        }
        let (mut body, mut text) = (response.bytes_stream(), vec![]);
        while let Some(part) = body.next().await {
            match part {
                Ok(part) => text.extend_from_slice(&part),
                Err(error) => return Outcome::Cut(format!("{error:?}")),
            }
            if let Some(pause) = plan.slow {
                sleep(pause).await;
            }
        }
        let text = String::from_utf8_lossy(&text);
        let last = text.trim_end().rsplit("\n\n").next().unwrap_or_default();
        let data = last.lines().find_map(|line| line.strip_prefix("data: "));
        let data: Value = data
            .and_then(|data| serde_json::from_str(data).ok())
            .unwrap_or_default();
        if last.contains("event: done") {
            checked(plan, &data["outputs"]["answer"])
        } else if last.contains("event: error") {
            failed(&data)
        } else {
            Outcome::Cut(format!("a stream without an end: {last:?}"))
        }
    }

    fn client(&self, plan: &Plan) -> (ProgramClient<Channel>, PredictRequest) {
        let client = ProgramClient::new(plan.program.name, self.channel.clone());
        (client, request(plan))
    }

    async fn grpc(&self, plan: &Plan) -> Outcome {
        let (client, request) = self.client(plan);
        outcome(plan, client.oneshot(request).await)
    }

    async fn grpc_stream(&self, plan: &Plan) -> Outcome {
        let (client, request) = self.client(plan);
        match client.streaming().oneshot(request).await {
            Ok(stream) => read(plan, stream).await,
            Err(error) => Outcome::of_kind(error.kind()),
        }
    }

    /// A call in this process, which may be cancelled by its token.
    async fn direct(&self, plan: &Plan, streams: bool) -> Outcome {
        let token = CancellationToken::new();
        let request = request(plan).with_cancel(token.clone());
        let program = plan.program.clone();
        let call = async {
            if !streams {
                return outcome(plan, program.whole.oneshot(request).await);
            }
            match program.streaming.oneshot(request).await {
                Ok(stream) => read(plan, stream).await,
                Err(error) => Outcome::of_kind(error.kind()),
            }
        };
        let cancel = async {
            match plan.leaves {
                // Before the caller leaves.
                Some(leaves) => sleep(leaves / 2).await,
                None => std::future::pending().await,
            }
            token.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            outcome = call => outcome,
            () = cancel => unreachable!("it waits for ever"),
        }
    }
}

fn request(plan: &Plan) -> PredictRequest {
    let request = PredictRequest::new(json!({"question": plan.question}));
    match plan.limit {
        Some(limit) => request.with_deadline(Deadline::within(limit)),
        None => request,
    }
}

async fn read(plan: &Plan, mut stream: PredictionStream) -> Outcome {
    while let Some(event) = stream.next().await {
        match event {
            Ok(StreamEvent::Done(prediction)) => return outcome(plan, Ok(*prediction)),
            Ok(_) => {}
            Err(error) => return Outcome::of_kind(error.kind()),
        }
        if let Some(pause) = plan.slow {
            sleep(pause).await;
        }
    }
    Outcome::Cut("a stream without an end".to_owned())
}

fn outcome(plan: &Plan, answer: Result<Prediction, Error>) -> Outcome {
    match answer {
        Ok(prediction) => checked(plan, &prediction.outputs["answer"]),
        Err(error) => Outcome::of_kind(error.kind()),
    }
}

/// Whether it is the answer to this question.
fn checked(plan: &Plan, answer: &Value) -> Outcome {
    let right = match plan.program.name {
        "agent" => answer == "blue",
        // Empty where both of its LM calls failed.
        "parallel" if answer == "" => !plan.calm,
        _ => *answer == format!("You said: {}", plan.question),
    };
    match right {
        true => Outcome::Answered,
        false => Outcome::Wrong(format!("{answer} to {:?}", plan.question)),
    }
}

fn failed(problem: &Value) -> Outcome {
    match problem["kind"].as_str() {
        Some("lost") => Outcome::Lost,
        Some("cancelled") => Outcome::Cancelled,
        Some(kind) => Outcome::Failed(kind.to_owned()),
        None => Outcome::Wrong(format!("a failure without a kind: {problem}")),
    }
}
