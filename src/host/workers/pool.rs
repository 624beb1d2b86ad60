//! The pool's thread: hands what the queue holds to the workers, and keeps them at full number.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::unix::pipe::Receiver,
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

use super::{
    Told, WorkerState,
    launch::Settings,
    loads::Loads,
    replace::{Replacement, Replacements},
    stats::{Counts, Published},
    wear::Wear,
    wire::{EventHeader, ToWorker},
    worker::Worker,
    zygote::Zygote,
};
use crate::host::{
    core::{
        clock, event::Event, host_core::HostCore, queue::Command, queued_call::QueuedCall,
        running_call::RunningCall,
    },
    start_error::StartError,
};

/// As often as a worker's heart beats.
const TICK: Duration = Duration::from_millis(20);
/// How long a worker that was to stop has for it, beyond the calls' grace.
const STOP_MARGIN: Duration = Duration::from_millis(500);
/// Frames that wait for the pool's thread; past that, the workers wait.
const HEARD: usize = 1024;

/// How long what was told to stop may take for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// While its worker's loop is blocked.
    pub(super) kill_after: Duration,
    /// While its worker goes on otherwise.
    pub(super) retire_after: Duration,
}

pub(super) struct Pool {
    pub(super) core: HostCore,
    pub(super) settings: Settings,
    pub(super) limits: Limits,
    pub(super) wear: Wear,
    pub(super) counts: Arc<Counts>,
    /// How many workers there are to be.
    pub(super) wanted: usize,
    pub(super) workers: BTreeMap<u64, Worker>,
    /// What workers are forked from, unless each is started by itself.
    pub(super) zygote: Option<Zygote>,
    /// Of the workers that calls go to.
    pub(super) generation: u64,
    pub(super) loads: Loads,
    pub(super) replacements: Replacements,
    /// The worker of each call, and of each LM exchange its worker's number for it.
    pub(super) calls: HashMap<u64, u64>,
    pub(super) exchanges: HashMap<u64, (u64, u64)>,
    /// Told once all workers are there, or one cannot be.
    pub(super) started: Option<oneshot::Sender<Result<(), StartError>>>,
    /// Starts that failed in a row, and when to try again.
    pub(super) failures: u32,
    pub(super) restart_at: Duration,
    /// When those that are left are killed, once the pool is to stop.
    pub(super) stop_at: Option<Duration>,
    /// Of the next process, worker or zygote.
    pub(super) next_process: u64,
    pub(super) tell: mpsc::Sender<(u64, Told)>,
    told: Option<mpsc::Receiver<(u64, Told)>>,
}

impl Pool {
    pub(super) fn new(
        core: HostCore,
        settings: Settings,
        (limits, wear): (Limits, Wear),
        wanted: usize,
        counts: Arc<Counts>,
        started: oneshot::Sender<Result<(), StartError>>,
    ) -> Self {
        let (tell, told) = mpsc::channel(HEARD);
        Self {
            core,
            settings,
            limits,
            wear,
            counts,
            wanted,
            workers: BTreeMap::new(),
            zygote: None,
            generation: 0,
            loads: Loads::default(),
            replacements: Replacements::default(),
            calls: HashMap::new(),
            exchanges: HashMap::new(),
            started: Some(started),
            failures: 0,
            restart_at: Duration::ZERO,
            stop_at: None,
            next_process: 0,
            tell,
            told: Some(told),
        }
    }

    /// The life of the pool: until it was stopped, and all workers have ended.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let Some(mut told) = self.told.take() else {
            return Ok(());
        };
        // An eventfd is no pipe, but is read like one.
        let wake = Receiver::from_owned_fd_unchecked(self.core.queue.wake_up().try_clone_fd()?)?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.stop_at.is_none() || !self.workers.is_empty() || self.zygote.is_some() {
            tokio::select! {
                // What workers have said comes before the look at how long they were silent.
                biased;
                ready = wake.readable() => {
                    ready?;
                    while wake.try_read(&mut [0; 8]).is_ok() {}
                    self.core.queue.wake_up().acknowledge();
                }
                Some((id, what)) = told.recv() => self.hear(id, what),
                _ = tick.tick() => self.tick(),
            }
            self.drain();
            if self.stop_at.is_some()
                && self.workers.is_empty()
                && let Some(zygote) = &self.zygote
            {
                zygote.end();
            }
        }
        Ok(())
    }

    fn drain(&mut self) {
        while let Some(command) = self.core.queue.pop_command() {
            match command {
                Command::Cancel(call) => self.cancel(call),
                Command::Replace {
                    target,
                    spec,
                    registrations,
                    taken_over,
                    reply,
                } => self.replace(Replacement::new(
                    target,
                    spec,
                    registrations,
                    taken_over,
                    reply,
                )),
                Command::Load {
                    spec,
                    registrations,
                    reply,
                } => self.load(spec, registrations, reply),
                Command::Unload(load) => self.unload(load),
                Command::Stop { grace } => self.stop(grace),
            }
        }
        while let Some((id, event)) = self.core.queue.pop_event() {
            self.deliver(id, event);
        }
        while self.takes_calls() {
            let Some(call) = self.core.queue.pop_call() else {
                return;
            };
            if let Some(call) = call.begin() {
                self.start(call);
            }
        }
    }

    fn takes_calls(&self) -> bool {
        let ready = |worker: &Worker| worker.state == WorkerState::Ready;
        self.workers.values().any(ready)
    }

    /// Hands a call to the worker with the fewest: a blocked one comes last, after it only those
    /// that lack the program.
    fn start(&mut self, call: QueuedCall) {
        let ready = |(_, worker): &(&u64, &mut Worker)| worker.state == WorkerState::Ready;
        let workers = self.workers.iter_mut().filter(ready);
        let Some((&id, worker)) = workers.min_by_key(|(_, worker)| worker.load(call.target)) else {
            return;
        };
        worker.monitor.progress();
        let number = call.id;
        worker.take(call, RunningCall::new);
        if worker.calls.contains_key(&number) {
            self.calls.insert(number, id);
        }
    }

    fn cancel(&mut self, call: u64) {
        if let Some(worker) = self.worker_of(call) {
            worker.process.say(&ToWorker::Cancel { call }, &[]);
            worker.owes_end_of(call);
        }
    }

    pub(super) fn worker_of(&mut self, call: u64) -> Option<&mut Worker> {
        let id = self.calls.get(&call)?;
        self.workers.get_mut(id)
    }

    fn deliver(&mut self, id: u64, event: Event) {
        let last = event.is_last();
        let Some(&(worker, exchange)) = self.exchanges.get(&id) else {
            return;
        };
        if last {
            self.exchanges.remove(&id);
        }
        let Some(worker) = self.workers.get_mut(&worker) else {
            return;
        };
        let open = worker.exchanges.get(&exchange);
        let told = open.is_some_and(|open| open.call.as_ref().is_none_or(|c| !c.is_cancelled()));
        if last {
            worker.exchanges.remove(&exchange);
        }
        // A cancelled call hears of nothing more.
        if told && let Some((event, tail)) = EventHeader::of(event) {
            worker
                .process
                .say(&ToWorker::Event { exchange, event }, &tail);
        }
    }

    fn stop(&mut self, grace: Duration) {
        let at = clock::now()
            .saturating_add(grace)
            .saturating_add(STOP_MARGIN);
        self.stop_at.get_or_insert(at);
        self.replacements.forget();
        for worker in self.workers.values_mut() {
            for call in worker.calls.values() {
                call.running.state.cancel();
            }
            let grace = grace.as_secs_f64();
            if worker.up {
                worker.state = WorkerState::Ending;
                worker.process.say(&ToWorker::Stop { grace }, &[]);
            } else {
                worker.kill("the host was stopped");
            }
        }
        self.publish();
    }

    fn tick(&mut self) {
        let now = clock::now();
        if self.stop_at.is_some_and(|at| at <= now) {
            for worker in self.workers.values_mut() {
                worker.kill("it did not stop in time");
            }
            return;
        }
        if self.stop_at.is_some() {
            return;
        }
        for worker in self.workers.values_mut() {
            worker.look();
            let owes = worker.owes().unwrap_or_default();
            if worker.is_blocked() && owes > self.limits.kill_after {
                if worker.state != WorkerState::Ending {
                    self.counts.killed.add(1);
                    worker.kill("it was killed: work that was told to stop held it up");
                }
            } else if owes > self.limits.retire_after && worker.state == WorkerState::Ready {
                worker.state = WorkerState::Retiring;
            }
            if worker.state == WorkerState::Retiring {
                if worker.calls.is_empty() {
                    worker.dismiss();
                } else if owes > self.limits.retire_after && worker.has_only_owed() {
                    self.counts.killed.add(1);
                    worker.kill("it was killed: work that was told to stop did not");
                }
            }
            if worker.lingers(STOP_MARGIN) {
                worker.process.kill();
            }
        }
        self.look_for_wear();
        self.fill(now);
        self.relieve();
        self.publish();
    }

    /// Tells others how the workers are.
    pub(super) fn publish(&self) {
        self.counts.publish(Published {
            processes: self.workers.values().filter_map(Worker::told).collect(),
            zygote: self.zygote.as_ref().and_then(|zygote| zygote.pid),
            failed_starts: self.failures,
        });
    }
}
