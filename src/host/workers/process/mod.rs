//! Worker processes: the start of each, the link to it, and the watch for its exit.

mod event;
mod exec;
mod launch;
mod link;
mod output;
mod spawner;
mod zygote;
mod zygote_frames;

pub(super) use event::{EVENTS, ProcessEvent, SpawnerEvent, WorkerEvent};
pub(super) use exec::ExecSpawner;
pub(super) use launch::SpawnSettings;
pub(super) use link::WorkerLink;
pub(super) use spawner::Spawner;
pub(super) use zygote::ZygoteSpawner;
