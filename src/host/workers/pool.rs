//! The event loop of a pool of workers.
//!
//! One thread takes what the host's queues hold and the events of all processes, so that nothing
//! here is locked. The [`Supervisor`] keeps the workers; the loop hands it what concerns them.

use std::{io, time::Duration};

use bytes::Bytes;
use serde_json::Value;
use tokio::{
    net::unix::pipe::Receiver,
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    calls,
    exchanges::Exchanges,
    frames,
    numbers::{LoadId, WorkerId},
    process::{PoolEvent, ProcessEvent},
    requests::{LoadRequest, ReplaceRequest},
    supervisor::{Supervisor, warn_of},
    wire::{FromWorker, ToWorker},
    worker::Worker,
};
use crate::{
    call::CallId,
    host::core::{clock, http, loop_monitor::BlockReport, queue::Command, reader, tool},
};

/// The interval of a worker's heartbeat.
const TICK: Duration = Duration::from_millis(20);

/// A pool of workers.
pub(super) struct Pool {
    pub(super) supervisor: Supervisor,
    pub(super) exchanges: Exchanges,
    pub(super) events: mpsc::Receiver<PoolEvent>,
}

impl Pool {
    /// Runs until the pool was stopped and all processes have exited.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let queue = self.supervisor.core.queue.clone();
        // An eventfd is no pipe, but is read like one.
        let wake = Receiver::from_owned_fd_unchecked(queue.wake_up().try_clone_fd()?)?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.supervisor.has_stopped() {
            tokio::select! {
                // The frames of workers come before the look at how long they were silent.
                biased;
                ready = wake.readable() => {
                    ready?;
                    while wake.try_read(&mut [0; 8]).is_ok() {}
                    queue.wake_up().acknowledge();
                }
                Some(event) = self.events.recv() => match event {
                    PoolEvent::Worker(worker, event) => self.on_worker(worker, event),
                    PoolEvent::Zygote(event) => self.supervisor.on_zygote(event),
                },
                _ = tick.tick() => self.supervisor.tick(),
            }
            self.drain();
        }
        Ok(())
    }

    /// Takes what the host's queues hold.
    fn drain(&mut self) {
        let queue = self.supervisor.core.queue.clone();
        let mut has_cancelled = false;
        while let Some(command) = queue.pop_command() {
            has_cancelled |= matches!(command, Command::Cancel(_));
            self.on_command(command);
        }
        while let Some((id, event)) = queue.pop_event() {
            self.exchanges.deliver(&self.supervisor, id, event);
        }
        while self.supervisor.lifecycle.has_ready()
            && let Some(call) = queue.pop_call()
        {
            if let Some(call) = call.begin() {
                calls::start(call, &mut self.supervisor);
            }
        }
        if has_cancelled {
            // Without a ready worker calls wait; a cancelled one is not to hold its permit.
            queue.end_cancelled_calls();
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Cancel(sequence) => {
                let supervisor = &mut self.supervisor;
                if let Some(id) = supervisor.scheduler.worker_of(sequence) {
                    if let Some(worker) = supervisor.workers.get(&id) {
                        let call = supervisor.scheduler.get(id, sequence);
                        let cancel = ToWorker::Cancel {
                            call: sequence,
                            timed_out: call.is_some_and(|call| call.state.has_timed_out()),
                        };
                        worker.link.send(&cancel, &[]);
                    }
                    supervisor.scheduler.cancelled(id, sequence, clock::now());
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

    fn on_worker(&mut self, worker: WorkerId, event: ProcessEvent<FromWorker>) {
        match event {
            ProcessEvent::Message(message, tail) => self.on_message(worker, message, tail),
            ProcessEvent::Broken(how) => self.supervisor.on_broken(worker, how),
            ProcessEvent::Exited(how) => {
                self.exchanges.exited(worker);
                self.supervisor.on_exit(worker, how);
            }
        }
    }

    fn on_message(&mut self, id: WorkerId, message: FromWorker, tail: Bytes) {
        let supervisor = &mut self.supervisor;
        let scheduler = &mut supervisor.scheduler;
        let Some(worker) = supervisor.workers.get_mut(&id) else {
            return;
        };
        if message.is_progress() {
            worker.heartbeat.monitor.progress();
        }
        match message {
            FromWorker::Ready { weaker } => {
                warn_of(&weaker);
                worker.heartbeat.beat();
                #[cfg(feature = "py-spy")]
                if let Some(pid) = worker.link.pid() {
                    worker.heartbeat.watch_gil(pid);
                }
                supervisor.on_up(id);
            }
            FromWorker::Unusable { fault } => supervisor.on_unusable(id, fault),
            FromWorker::Beat => worker.heartbeat.beat(),
            FromWorker::Pulse => worker.heartbeat.monitor.pulse(),
            FromWorker::Blocked {
                frames,
                program,
                call,
            } => {
                let running = call.and_then(|call| scheduler.get(id, call));
                let call_id = running.and_then(|running| running.state.context.call_id);
                let report = BlockReport {
                    frames,
                    program,
                    call_id: call_id.map(CallId::get),
                };
                let late = worker.heartbeat.monitor.report_of_watchdog(&report);
                if let (Some(late), Some(running)) = (late, running) {
                    running.record_block(late, &report);
                }
            }
            FromWorker::GaveUp { replaced } => {
                let counters = &supervisor.core.counters;
                worker.abandoned.push(counters.abandon_thread(replaced));
            }
            FromWorker::CameBack => drop(worker.abandoned.pop()),
            FromWorker::Log(record) => {
                let running = record.call.and_then(|call| scheduler.get(id, call));
                record.forward(running.and_then(|running| running.state.context.call_id));
            }
            FromWorker::Loaded { load, target } => {
                supervisor.on_loaded(id, load, Ok((target, frames::value(&tail))));
            }
            FromWorker::NotLoaded { load, fault } => {
                worker.forget_lms(load);
                supervisor.on_loaded(id, load, Err(fault));
            }
            FromWorker::AdoptLm(own) => worker.adopt_lm(own),
            FromWorker::ResolveLm { lm, provider } => {
                if !supervisor.programs.is_loading(id) {
                    // No code of a program may have keys looked up for it later.
                    return worker.refuse_lm(lm);
                }
                let of_host = usize::try_from(lm).ok();
                let of_host = of_host.and_then(|lm| supervisor.core.lms.get(lm));
                worker.resolve_lm(lm, of_host, &provider);
            }
            FromWorker::Open(request) => {
                let (supervisor, core) = (&*supervisor, &supervisor.core);
                let (key, call) = ((id, request.exchange), request.call);
                self.exchanges
                    .open(supervisor, key, call, |worker, exchange| {
                        let find = |lm| match usize::try_from(lm) {
                            Ok(lm) => core.lms.get(lm),
                            Err(_) => worker.own_lm(lm),
                        };
                        http::send(core, exchange, request.with_body(tail)?, find)
                    });
            }
            FromWorker::CallTool {
                exchange: number,
                tool,
                call,
                trace,
            } => {
                let (supervisor, tools) = (&*supervisor, &supervisor.core.tools);
                self.exchanges
                    .open(supervisor, (id, number), call, |_, exchange| {
                        let arguments = frames::value(&tail).map_err(|fault| fault.message)?;
                        let Value::Object(arguments) = arguments else {
                            return Err("the arguments of a tool are no object".into());
                        };
                        let tool = tools.get(tool).ok_or("the host knows no such tool")?;
                        tool::call(exchange, tool, arguments, &trace)
                    });
            }
            FromWorker::AwaitReader {
                exchange: number,
                call,
            } => {
                let wait = |_: &Worker, exchange| reader::wait(exchange);
                self.exchanges.open(supervisor, (id, number), call, wait);
            }
            FromWorker::Read { exchange, bytes } => self.exchanges.read(id, exchange, bytes),
            FromWorker::Stop { exchange } => self.exchanges.stop(id, exchange),
            FromWorker::Abort { exchange } => self.exchanges.abort(id, exchange),
            FromWorker::Call { call, report } => {
                calls::on_report(scheduler, (id, call), report, &tail);
            }
        }
    }
}

#[cfg(test)]
mod tests;
