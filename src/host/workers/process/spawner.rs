//! The two ways to start worker processes: each by itself, or forked from a zygote.

use std::{io, mem, time::Duration};

use futures_util::FutureExt;
use tokio::time::sleep;

use super::{
    event::{EventSender, PoolEvent},
    launch::{SpawnSettings, launch},
    link::ProcessLink,
    zygote::Zygote,
};
use crate::host::workers::numbers::WorkerId;

/// How long the zygote has to reap its workers and to exit by itself.
const END_GRACE: Duration = Duration::from_secs(1);

/// A way to start worker processes. The kernel ends them with the thread that started them.
pub(in crate::host::workers) trait Spawner {
    /// Starts the process of a worker. `None` while the zygote starts or ends: the message `Warm` or
    /// the event `Exited` follows.
    fn spawn(
        &mut self,
        worker: WorkerId,
        settings: &SpawnSettings,
        events: &EventSender,
    ) -> io::Result<Option<ProcessLink>>;

    /// The zygote, while there is one.
    fn zygote(&mut self) -> Option<&mut Zygote> {
        None
    }

    /// Forgets the zygote: it has exited, or is about to.
    fn take_zygote(&mut self) -> Option<Zygote> {
        None
    }

    /// The id of the zygote's process.
    fn zygote_pid(&self) -> Option<u32> {
        None
    }

    /// Ends the zygote.
    fn stop(&mut self) {}
}

/// Starts each worker as a process of its own, which imports DSPy by itself.
pub(in crate::host::workers) struct ExecSpawner;

impl Spawner for ExecSpawner {
    fn spawn(
        &mut self,
        worker: WorkerId,
        settings: &SpawnSettings,
        events: &EventSender,
    ) -> io::Result<Option<ProcessLink>> {
        let of_worker = move |event| PoolEvent::Worker(worker, event);
        let (child, connection) = launch(settings)?;
        let link = ProcessLink::new(child, connection, events, of_worker);
        link.send(&settings.hello(false), &[]);
        Ok(Some(link))
    }
}

/// Forks each worker from a zygote, which is started first.
#[derive(Default)]
pub(in crate::host::workers) struct ForkSpawner {
    zygote: Option<Zygote>,
}

impl Spawner for ForkSpawner {
    fn spawn(
        &mut self,
        worker: WorkerId,
        settings: &SpawnSettings,
        events: &EventSender,
    ) -> io::Result<Option<ProcessLink>> {
        let Some(zygote) = &mut self.zygote else {
            let (child, connection) = launch(settings)?;
            let link = ProcessLink::new(child, connection, events, PoolEvent::Zygote);
            link.send(&settings.hello(true), &[]);
            self.zygote = Some(Zygote::new(link));
            return Ok(None);
        };
        if !zygote.is_warm || zygote.link.is_killed() {
            return Ok(None);
        }
        let of_worker = move |event| PoolEvent::Worker(worker, event);
        let (forked, connection) = zygote.fork(worker)?;
        let link = ProcessLink::new(forked, connection, events, of_worker);
        Ok(Some(link))
    }

    fn zygote(&mut self) -> Option<&mut Zygote> {
        self.zygote.as_mut()
    }

    fn take_zygote(&mut self) -> Option<Zygote> {
        self.zygote.take()
    }

    fn zygote_pid(&self) -> Option<u32> {
        self.zygote.as_ref()?.link.pid()
    }

    fn stop(&mut self) {
        if let Some(zygote) = &mut self.zygote
            && !mem::replace(&mut zygote.is_ending, true)
        {
            // It reaps its workers before it exits: zombies would be left to a process that may
            // not reap them.
            let link = zygote.link.clone();
            link.close();
            tokio::spawn(sleep(END_GRACE).map(move |()| link.kill()));
        }
    }
}
