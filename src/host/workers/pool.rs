//! The event loop of a pool of workers.
//!
//! One thread takes what the host's queues hold and the events of all processes, so that nothing
//! here is locked. The [`Supervisor`] keeps the workers; the loop hands it what concerns them.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::unix::pipe::Receiver,
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

use super::{
    calls,
    exchanges::Exchanges,
    messages::WorkerMessage,
    numbers::{LoadId, WorkerId},
    pool_settings::PoolSettings,
    process::{EVENTS, ProcessEvent, WorkerEvent},
    requests::{LoadRequest, ReplaceRequest},
    stats::PoolCounts,
    supervisor::{Supervisor, warn_of},
    wire::ToWorker,
};
use crate::host::{
    core::{clock, event::Event, host_core::HostCore, log, queue::Command},
    start_error::StartError,
};

/// The interval of a worker's heartbeat.
const TICK: Duration = Duration::from_millis(20);

/// A pool of workers.
pub(super) struct Pool {
    core: HostCore,
    supervisor: Supervisor,
    exchanges: Exchanges,
    events: mpsc::Receiver<ProcessEvent>,
}

impl Pool {
    pub(super) fn new(
        core: HostCore,
        settings: PoolSettings,
        counts: Arc<PoolCounts>,
        starting: oneshot::Sender<Result<(), StartError>>,
    ) -> Self {
        let (sender, events) = mpsc::channel(EVENTS);
        Self {
            supervisor: Supervisor::new(core.clone(), settings, counts, sender, starting),
            core,
            exchanges: Exchanges::default(),
            events,
        }
    }

    /// Runs until the pool was stopped and all processes have exited.
    pub(super) async fn run(mut self) -> io::Result<()> {
        // An eventfd is no pipe, but is read like one.
        let wake = Receiver::from_owned_fd_unchecked(self.core.queue.wake_up().try_clone_fd()?)?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.supervisor.has_stopped() {
            tokio::select! {
                // The frames of workers come before the look at how long they were silent.
                biased;
                ready = wake.readable() => {
                    ready?;
                    while wake.try_read(&mut [0; 8]).is_ok() {}
                    self.core.queue.wake_up().acknowledge();
                }
                Some(event) = self.events.recv() => match event {
                    ProcessEvent::Worker(worker, event) => self.on_worker(worker, event),
                    ProcessEvent::Spawner(event) => self.supervisor.on_spawner(event),
                },
                _ = tick.tick() => self.supervisor.tick(),
            }
            self.drain();
        }
        Ok(())
    }

    /// Takes what the host's queues hold.
    fn drain(&mut self) {
        while let Some(command) = self.core.queue.pop_command() {
            self.on_command(command);
        }
        while let Some((id, event)) = self.core.queue.pop_event() {
            self.deliver(id, event);
        }
        let supervisor = &mut self.supervisor;
        while supervisor.lifecycle.has_ready() {
            let Some(call) = self.core.queue.pop_call() else {
                return;
            };
            if let Some(call) = call.begin() {
                let (lifecycle, programs) = (&supervisor.lifecycle, &supervisor.programs);
                let deciding = (&mut supervisor.scheduler, lifecycle, programs);
                calls::start(call, deciding, &supervisor.workers);
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Cancel(sequence) => {
                if let Some(worker) = self.supervisor.scheduler.worker_of(sequence) {
                    self.send(worker, &ToWorker::Cancel { call: sequence }, &[]);
                    let scheduler = &mut self.supervisor.scheduler;
                    scheduler.cancelled(worker, sequence, clock::now());
                }
            }
            Command::Replace {
                target,
                spec,
                registrations,
                taken_over,
                reply,
            } => {
                let request = ReplaceRequest {
                    registrations,
                    taken_over,
                    reply,
                };
                self.supervisor.replace(LoadId(target), spec, request);
            }
            Command::Load {
                spec,
                registrations,
                reply,
            } => self.supervisor.load(
                spec,
                LoadRequest {
                    registrations,
                    reply,
                },
            ),
            Command::Unload(load) => self.supervisor.unload(LoadId(load)),
            Command::Stop { grace } => self.supervisor.stop(grace),
        }
    }

    fn send(&self, worker: WorkerId, message: &ToWorker<'_>, tail: &[u8]) {
        self.supervisor.workers.send(worker, message, tail);
    }

    fn deliver(&mut self, id: u64, event: Event) {
        if let Some(delivery) = self.exchanges.deliver(id, event) {
            let event = ToWorker::Event {
                exchange: delivery.number,
                event: delivery.event,
            };
            self.send(delivery.worker, &event, &delivery.tail);
        }
    }

    fn on_worker(&mut self, worker: WorkerId, event: WorkerEvent) {
        match event {
            WorkerEvent::Spawned => self.supervisor.publish(),
            WorkerEvent::Message(message, tail) => {
                if let Some(message) = WorkerMessage::read(message, &tail) {
                    self.on_message(worker, message);
                }
            }
            WorkerEvent::Broken(how) => self.supervisor.on_broken(worker, how),
            WorkerEvent::Exited(how) => {
                self.exchanges.exited(worker);
                self.supervisor.on_exit(worker, how);
            }
        }
    }

    fn on_message(&mut self, id: WorkerId, message: WorkerMessage) {
        let supervisor = &mut self.supervisor;
        let scheduler = &mut supervisor.scheduler;
        let Some(worker) = supervisor.workers.get_mut(id) else {
            return;
        };
        if message.is_crossing() {
            worker.heartbeat.progress();
        }
        match message {
            WorkerMessage::Up(weaker) => {
                warn_of(&weaker);
                worker.heartbeat.beat();
                #[cfg(feature = "py-spy")]
                if let Some(pid) = worker.link.pid() {
                    worker.heartbeat.watch_gil(pid);
                }
                supervisor.on_up(id);
            }
            WorkerMessage::Unusable(fault) => supervisor.on_unusable(id, fault),
            WorkerMessage::Loop(message) => worker.on_loop(message, |call| {
                scheduler.get(id, call)?.state.context.call_id
            }),
            WorkerMessage::GaveUp { replaced } => {
                let counters = &self.core.counters;
                worker.abandoned.push(counters.abandon_thread(replaced));
            }
            WorkerMessage::CameBack => {
                worker.abandoned.pop();
            }
            WorkerMessage::Log {
                level,
                logger,
                message,
            } => log::forward(level, &logger, &message),
            WorkerMessage::Loaded { load, answer } => {
                match &answer {
                    Ok(_) => worker.own_lms.loaded(load),
                    Err(_) => worker.own_lms.not_loaded(),
                }
                supervisor.on_loaded(id, load, answer);
            }
            WorkerMessage::AdoptLm(own) => worker.adopt_lm(own),
            WorkerMessage::Open {
                number,
                call,
                request,
            } => {
                let running = match call.map(|call| scheduler.get(id, call)) {
                    // A call that has ended waits for no answer.
                    Some(None) => return,
                    running => running.flatten(),
                };
                let exchanges = &mut self.exchanges;
                exchanges.open(&self.core, (id, worker), number, running, request);
            }
            WorkerMessage::Abort { number } => self.exchanges.abort(id, number),
            WorkerMessage::Call(call, message) => {
                calls::on_message(scheduler, (id, call), message, clock::now());
            }
        }
    }
}
