use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::*;
use crate::host::{
    core::host_core::NewCall,
    workers::{process::EVENTS, stats::WorkerStats},
};

/// A supervisor of one worker, whose program is no Python: the tests make up its events.
fn supervisor(fork: bool) -> Supervisor {
    let core = HostCore::new(usize::MAX, "3.4.1").unwrap();
    let (events, _) = mpsc::channel(EVENTS);
    let (starting, _) = oneshot::channel();
    let mut settings = Workers::new(1).fork(fork);
    settings.spawn.python = "true".into();
    Supervisor::new(core, settings, Arc::default(), events, starting)
}

/// Reads the stats when it is dropped.
struct ReadAtDrop {
    stats: Arc<SharedStats>,
    reading: Arc<Mutex<WorkerStats>>,
}

impl Drop for ReadAtDrop {
    fn drop(&mut self) {
        *self.reading.lock().unwrap() = self.stats.read();
    }
}

#[tokio::test]
async fn a_lost_worker_is_counted_before_its_calls_are_answered() {
    let mut supervisor = supervisor(false);
    supervisor.starting = None;
    supervisor.fill();
    let worker = WorkerId(1);
    supervisor.on_up(worker);
    assert_eq!(supervisor.stats.read().ready(), 1);
    let stats = supervisor.stats.clone();
    let reading = Arc::<Mutex<WorkerStats>>::default();
    let permit = ReadAtDrop {
        stats,
        reading: reading.clone(),
    };
    let core = supervisor.core.clone();
    let call = core.submit(NewCall {
        permit: Some(Box::new(permit)),
        ..NewCall::default()
    });
    let queued = core.queue.pop_call().and_then(|call| call.begin()).unwrap();
    let (number, running) = (queued.sequence, RunningCall::new(queued));
    supervisor.scheduler.assign(number, worker, running);
    supervisor.on_exit(worker, "it crashed".into());
    assert!(call.await.unwrap().is_err());
    let reading = reading.lock().unwrap();
    assert_eq!((reading.lost, reading.calls_lost), (1, 1));
    assert_eq!(reading.processes, []);
}

#[tokio::test]
async fn a_zygote_whose_socket_is_closed_forks_no_worker() {
    let mut supervisor = supervisor(true);
    supervisor.starting = None;
    supervisor.fill();
    assert!(
        supervisor.workers.is_empty(),
        "it has started a zygote first"
    );
    let warm = FromZygote::Warm { weaker: Vec::new() };
    supervisor.on_zygote(ProcessEvent::Message(warm, Bytes::new()));
    assert_eq!(supervisor.workers.len(), 1);
    supervisor.on_zygote(ProcessEvent::Broken(None));
    let (settings, events) = (&supervisor.spawn_settings, &supervisor.events);
    let spawned = supervisor.spawner.spawn(WorkerId(2), settings, events);
    assert!(spawned.unwrap().is_none());
    supervisor.on_zygote(ProcessEvent::Exited("it ended".into()));
    assert!(supervisor.spawner.zygote().is_none());
    assert_eq!(supervisor.lifecycle.failed_starts(), 1);
}

#[tokio::test]
async fn a_zygote_that_exits_as_the_pool_stops_is_listed_no_more() {
    let mut supervisor = supervisor(true);
    supervisor.fill();
    supervisor.stop(Duration::ZERO);
    assert!(supervisor.stats.read().zygote.is_some());
    supervisor.on_zygote(ProcessEvent::Exited("it ended".into()));
    assert_eq!(supervisor.stats.read().zygote, None);
}
