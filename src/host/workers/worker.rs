//! One worker as the pool knows it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    WorkerProcess,
    process::Process,
    wire::{self, ToWorker},
};
use crate::{
    host::core::{
        call_state::{CallState, ExchangeAbort},
        clock,
        count::GaugeGuard,
        fault::Fault,
        health::Health,
        loop_monitor::LoopMonitor,
        queued_call::QueuedCall,
        running_call::RunningCall,
    },
    lm::LmHandle,
};

/// How far a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerState {
    /// It starts, imports DSPy and loads the programs.
    Starting,
    /// It takes calls.
    Ready,
    /// It takes no more calls, and ends when those that it has do: work that was told to stop does
    /// not.
    Retiring,
    /// It was told to end, or killed.
    Ending,
}

/// A call in a worker.
pub(super) struct InFlight {
    pub(super) running: RunningCall,
    /// It has its outcome.
    pub(super) resolved: bool,
    /// All its work has ended.
    pub(super) settled: bool,
    /// Since when it is to have ended, and has not.
    pub(super) owed_since: Option<Duration>,
}

/// An LM exchange of a worker's.
pub(super) struct Exchange {
    /// By its number in the host.
    pub(super) id: u64,
    pub(super) abort: ExchangeAbort,
    pub(super) call: Option<Arc<CallState>>,
}

pub(super) struct Worker {
    pub(super) process: Process,
    /// Which replacement of a program it came with; see `replace.rs`.
    pub(super) generation: u64,
    pub(super) state: WorkerState,
    /// It has said that it is ready: programs may be loaded.
    pub(super) up: bool,
    /// It was given the programs to load.
    pub(super) asked: bool,
    /// It has served long enough, and another is to take its place.
    pub(super) worn: bool,
    /// Since when it is to end by itself, having no calls.
    dismissed: Option<Duration>,
    /// Why it was killed, if it was.
    pub(super) verdict: Option<String>,
    /// Its own numbers of the programs.
    pub(super) targets: HashMap<u64, u64>,
    /// The programs that it could not load, though others could.
    pub(super) lacks: HashMap<u64, Fault>,
    pub(super) calls: HashMap<u64, InFlight>,
    /// By its own numbers.
    pub(super) exchanges: HashMap<u64, Exchange>,
    /// LMs that its programs brought along, by its own numbers.
    pub(super) lms: HashMap<i64, Arc<LmHandle>>,
    /// Those of the program that is being loaded, and those of each that is.
    pub(super) adopting: Vec<i64>,
    pub(super) adopted: HashMap<u64, Vec<i64>>,
    /// Threads that were given up and still work.
    pub(super) abandoned: Vec<GaugeGuard>,
    pub(super) ready_since: Duration,
    /// Calls that it was ever given.
    pub(super) given: u64,
    pub(super) monitor: LoopMonitor,
    /// How often it was looked at, and how often in a row it was found late.
    pub(super) looks: u32,
    late_looks: u32,
}

impl Worker {
    pub(super) fn new(process: Process, generation: u64) -> Self {
        Self {
            process,
            generation,
            state: WorkerState::Starting,
            up: false,
            asked: false,
            worn: false,
            dismissed: None,
            verdict: None,
            targets: HashMap::new(),
            lacks: HashMap::new(),
            calls: HashMap::new(),
            exchanges: HashMap::new(),
            lms: HashMap::new(),
            adopting: Vec::new(),
            adopted: HashMap::new(),
            abandoned: Vec::new(),
            ready_since: Duration::ZERO,
            given: 0,
            monitor: LoopMonitor::default(),
            looks: 0,
            late_looks: 0,
        }
    }

    pub(super) fn beat(&mut self) {
        self.monitor.beat();
        self.monitor.pulse();
        self.late_looks = 0;
    }

    /// Looks at the heartbeat, as often as it should beat. What is late at one look may be this
    /// process's own delay.
    pub(super) fn look(&mut self) {
        self.looks = self.looks.wrapping_add(1);
        if self.up && self.monitor.is_late() {
            self.late_looks += 1;
        } else {
            self.late_looks = 0;
        }
    }

    /// Its loop does not run.
    pub(super) const fn is_blocked(&self) -> bool {
        self.late_looks > 1
    }

    fn health(&self) -> Health {
        match self.state {
            WorkerState::Starting => Health::Starting,
            WorkerState::Ending => Health::Lost,
            // What is late at one look may be this process's own delay.
            _ if !self.is_blocked() => Health::Ready,
            _ => self.monitor.health(),
        }
    }

    /// What others are told of it, once it is there.
    pub(super) fn told(&self) -> Option<WorkerProcess> {
        Some(WorkerProcess {
            pid: self.process.pid()?,
            state: self.state,
            health: self.health(),
            in_flight: self.calls.len(),
            calls: self.given,
        })
    }

    /// For how long a call of it is to have ended, and has not: the longest.
    pub(super) fn owes(&self) -> Option<Duration> {
        let since = self.calls.values().filter_map(|call| call.owed_since).min();
        since.map(|since| clock::now().saturating_sub(since))
    }

    /// Whether all that it still has was told to stop.
    pub(super) fn has_only_owed(&self) -> bool {
        self.calls.values().all(|call| call.owed_since.is_some())
    }

    /// What to rank workers by for a call of a program: the least is given it.
    pub(super) fn load(&self, program: u64) -> (bool, bool, bool, usize) {
        let lacks = !self.targets.contains_key(&program);
        (lacks, self.is_blocked(), self.worn, self.calls.len())
    }

    /// Hands a call over that has begun.
    pub(super) fn take(
        &mut self,
        queued: QueuedCall,
        running: impl FnOnce(QueuedCall) -> RunningCall,
    ) {
        let (call, inputs) = (queued.id, queued.inputs.clone());
        let remaining = queued.time_left().map(|left| left.as_secs_f64());
        let target = self.targets.get(&queued.target).copied();
        let lm = queued.route.lm.clone();
        let lacking = target.is_none().then(|| {
            let fault = self.lacks.get(&queued.target);
            let reason = fault.map_or("none of that name", |fault| &fault.message);
            super::fault(&format!("it could not load the program: {reason}"))
        });
        let running = running(queued);
        let inputs = serde_json::to_vec(&*inputs);
        match (target, inputs) {
            (Some(_), Ok(inputs)) if inputs.len() > wire::MOST_INPUTS => {
                let message = format!(
                    "the inputs have {} bytes as JSON; a worker process takes at most {}",
                    inputs.len(),
                    wire::MOST_INPUTS,
                );
                running.finish(Err(Fault::new("ValueError", message)));
            }
            (Some(target), Ok(inputs)) => {
                let start = ToWorker::Start {
                    call,
                    target,
                    remaining,
                    lm: lm.as_deref(),
                };
                self.process.say(&start, &inputs);
                self.given += 1;
                let in_flight = InFlight {
                    running,
                    resolved: false,
                    settled: false,
                    owed_since: None,
                };
                self.calls.insert(call, in_flight);
            }
            (_, Err(error)) => running.finish(Err(super::fault(&error.to_string()))),
            (None, _) => {
                if let Some(lacking) = lacking {
                    running.finish(Err(lacking));
                }
            }
        }
    }

    /// The call is to end from now on.
    pub(super) fn owes_end_of(&mut self, call: u64) {
        if let Some(call) = self.calls.get_mut(&call) {
            call.owed_since.get_or_insert_with(clock::now);
        }
    }

    /// Has it end by itself: it has no calls, and gets none.
    pub(super) fn dismiss(&mut self) {
        self.state = WorkerState::Ending;
        self.dismissed = Some(clock::now());
        self.process.say(&ToWorker::Stop { grace: 0.0 }, &[]);
    }

    /// Ends it before it has come to work: nobody needs it.
    pub(super) fn discard(&mut self) {
        self.state = WorkerState::Ending;
        self.dismissed.get_or_insert_with(clock::now);
        self.process.kill();
    }

    pub(super) const fn is_dismissed(&self) -> bool {
        self.dismissed.is_some()
    }

    /// It was to end by itself, longer ago than `patience`.
    pub(super) fn lingers(&self, patience: Duration) -> bool {
        let since = self.dismissed;
        since.is_some_and(|since| clock::now().saturating_sub(since) > patience)
    }

    /// Ends the process, because of `verdict`.
    pub(super) fn kill(&mut self, verdict: impl Into<String>) {
        self.state = WorkerState::Ending;
        self.verdict.get_or_insert_with(|| verdict.into());
        self.process.kill();
    }
}
