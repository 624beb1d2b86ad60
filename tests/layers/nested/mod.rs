//! Limits within limits, and foreign layers between them.

mod cancels;
mod foreign;
mod grace;
mod other_tasks;
mod retries;
mod rig;
mod two_limits;
mod wakers;
