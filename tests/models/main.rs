//! Models of the state that threads share, under every interleaving that loom finds.
//!
//! The files of the library are compiled once more here, over loom's atomics and locks instead of
//! those of std (`crate::sync`), so no build of its own with a flag is needed. A model that fails
//! prints the first interleaving that breaks an assertion; one that waits for ever is a deadlock.
//!
//! What comes from tokio is not explored within: its `Notify` acts in one step (`notify.rs`). The
//! token is modelled in `token.rs`.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "the library's files, of which the models use a part"
)]

#[path = "../../src/call/call_end.rs"]
mod call_end;
#[path = "../../src/call/call_status.rs"]
mod call_status;
#[path = "../../src/call/cancel.rs"]
mod cancel;
mod cancels;
#[path = "../../src/call/cause.rs"]
mod cause;
#[path = "../../src/call/in_flight.rs"]
mod in_flight;
mod in_flights;
mod layers;
mod notify;
mod token;
#[path = "../../src/call/work_count.rs"]
mod work_count;

/// The library's `call`, of which the token's files are compiled anew.
mod call {
    pub(crate) use tower_dspy::{CallId, Deadline, ErrorKind, timeline::OutcomeClass};

    pub(crate) use crate::call_end::CallEnd;
    pub(crate) use crate::call_status::CallStatus;
    pub(crate) use crate::cancel::Cancel;
    pub(crate) use crate::cause::Cause;
    pub(crate) use crate::in_flight;
    pub(crate) use crate::work_count;

    pub(crate) mod drop_scope {
        pub(crate) fn cause() -> crate::call::Cause {
            crate::call::Cause::Dropped
        }
    }

    pub(crate) mod record {
        /// That of a call of one attempt. Its lock is taken inside the tracker's, and takes none.
        #[derive(Debug)]
        pub(crate) struct CallRecord;

        impl CallRecord {
            pub(crate) fn open() -> std::sync::Arc<Self> {
                std::sync::Arc::new(Self)
            }

            pub(crate) fn attempts(&self) -> u32 {
                1
            }

            pub(crate) fn id(&self) -> Option<super::CallId> {
                None
            }

            pub(crate) fn is_at_work(&self) -> bool {
                false
            }

            pub(crate) async fn wait_settled(&self) {}
        }
    }
}

mod sync {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    };

    pub(crate) use super::notify::Notify;
    pub(crate) use super::token::{CancellationToken, WaitForCancellationFutureOwned};
}
