//! Worker processes: how they start, and the connection to each until it has exited.

mod event;
mod exec;
mod launch;
mod output;
mod process;
mod spawner;
mod zygote;
mod zygote_frames;

pub(super) use event::{EVENTS, ProcessEvent, SpawnerEvent, WorkerEvent};
pub(super) use exec::ExecSpawner;
pub(super) use launch::SpawnSettings;
pub(super) use process::{HUNG_UP, Process};
pub(super) use spawner::Spawner;
pub(super) use zygote::ZygoteSpawner;
