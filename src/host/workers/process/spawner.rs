//! The start of worker processes: each forked from a zygote, or started by itself.

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

/// How long the zygote has to exit by itself.
const END_GRACE: Duration = Duration::from_millis(200);

/// The spawner of worker processes. The kernel ends them with the thread that started them.
pub(in crate::host::workers) struct Spawner {
    pub(in crate::host::workers) settings: SpawnSettings,
    pub(in crate::host::workers) events: EventSender,
    /// Whether workers are forked from a zygote.
    pub(in crate::host::workers) forks: bool,
    pub(in crate::host::workers) zygote: Option<Zygote>,
}

impl Spawner {
    /// Starts the process of a worker. `None` while the zygote starts or ends: the message `Warm` or
    /// the event `Exited` follows.
    pub(in crate::host::workers) fn spawn(
        &mut self,
        worker: WorkerId,
    ) -> io::Result<Option<ProcessLink>> {
        let of_worker = move |event| PoolEvent::Worker(worker, event);
        if !self.forks {
            let (child, connection) = launch(&self.settings)?;
            let link = ProcessLink::new(child, connection, &self.events, of_worker);
            link.send(&self.settings.hello(false), &[]);
            return Ok(Some(link));
        }
        let Some(zygote) = &mut self.zygote else {
            let (child, connection) = launch(&self.settings)?;
            let link = ProcessLink::new(child, connection, &self.events, PoolEvent::Zygote);
            link.send(&self.settings.hello(true), &[]);
            self.zygote = Some(Zygote::new(link));
            return Ok(None);
        };
        if !zygote.is_warm || zygote.link.is_killed() {
            return Ok(None);
        }
        let (forked, connection) = zygote.fork(worker)?;
        let link = ProcessLink::new(forked, connection, &self.events, of_worker);
        Ok(Some(link))
    }

    /// The id of the zygote, while there is one.
    pub(in crate::host::workers) fn zygote_pid(&self) -> Option<u32> {
        self.zygote.as_ref()?.link.pid()
    }

    /// Ends the zygote.
    pub(in crate::host::workers) fn stop(&mut self) {
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
