//! Worker processes: the start of each, the link to it, and the watch for its exit.

mod connection;
mod descriptors;
mod event;
mod launch;
mod link;
mod output;
mod spawner;
mod zygote;

pub(super) use event::{EVENTS, EventSender, PoolEvent, ProcessEvent};
pub(super) use launch::SpawnSettings;
pub(super) use link::ProcessLink;
pub(super) use spawner::{ExecSpawner, ForkSpawner, Spawner};
