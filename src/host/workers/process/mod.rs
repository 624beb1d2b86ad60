//! Worker processes: the start of each, the link to it, and the watch for its exit.

mod descriptors;
mod event;
mod exec;
mod launch;
mod link;
mod output;
mod spawner;
mod zygote;

pub(super) use event::{EVENTS, EventSender, PoolEvent, ProcessEvent, SpawnerEvent};
pub(super) use exec::ExecSpawner;
pub(super) use launch::SpawnSettings;
pub(super) use link::ProcessLink;
pub(super) use spawner::Spawner;
pub(super) use zygote::ZygoteSpawner;
