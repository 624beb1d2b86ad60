//! An exchange between a program and an LM, another server or a tool, carried by Rust.
//!
//! Python's side is `exchange.py`, which describes the events, and `host_tools.py` for tools. The
//! exchange runs on the host's LM runtime. Its events go through the queue for code on the loop, and
//! through a channel for code on a thread of this process.

#[cfg(feature = "python")]
use std::sync::mpsc;
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{task::AbortHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    call_state::CallState, event::Event, flow::ExchangeFlow, queue::CommandQueue, runtime,
};

/// The receiver of an exchange's events.
#[derive(Clone)]
pub(crate) enum EventSink {
    Queue(Arc<CommandQueue>, u64),
    #[cfg(feature = "python")]
    Thread(mpsc::Sender<Event>),
}

impl EventSink {
    /// Sends an event, which is dropped if the receiver has gone.
    pub(crate) fn send(&self, event: Event) {
        match self {
            Self::Queue(queue, id) => queue.push_event(*id, event),
            #[cfg(feature = "python")]
            Self::Thread(sender) => {
                let _ = sender.send(event);
            }
        }
    }
}

/// An exchange that a port opens.
pub(crate) struct NewExchange {
    /// The call that it is for; `None` for code that belongs to none.
    pub(crate) call: Option<Arc<CallState>>,
    /// Its number on Python's side.
    pub(crate) number: u64,
    /// The first event may come before `start` has returned.
    pub(crate) sink: EventSink,
    /// Of the chunks of a streamed answer.
    pub(crate) flow: Arc<ExchangeFlow>,
    /// Ends it with an event, once its connection is closed.
    pub(crate) stop: CancellationToken,
    /// Only dropped: once the work has ended or was aborted, and before the last event.
    pub(crate) on_end: Option<Box<dyn Send>>,
}

impl NewExchange {
    /// Starts `work` on the host's runtime; `None` if the call is over. Its output is the last event.
    pub(crate) fn start<W>(
        self,
        work: impl FnOnce(EventSink) -> W,
    ) -> Result<Option<AbortHandle>, String>
    where
        W: Future<Output = Event> + Send + 'static,
    {
        let Self {
            call,
            sink,
            stop,
            on_end,
            ..
        } = self;
        let runtime = runtime::handle()?;
        // A panic is an event as well: the receiver would wait for ever. In a box: each future around it
        // has room for it twice, before its first poll and after.
        let work = Box::pin(AssertUnwindSafe(work(sink.clone())).catch_unwind());
        let exchange = async move {
            // An abort drops what is awaited before this.
            let on_end = on_end;
            let end = stop.run_until_cancelled_owned(work).await;
            drop(on_end);
            sink.send(match end {
                Some(Ok(end)) => end,
                Some(Err(_)) => {
                    let message =
                        "the LM call failed: a layer of the LM, or its key function, panicked";
                    Event::Failed("other", message.into())
                }
                None => Event::Failed("stopped", "another LM answered before".into()),
            });
        };
        Ok(match &call {
            Some(call) => call.begin_exchange(exchange, runtime),
            None => Some(runtime.spawn(exchange).abort_handle()),
        })
    }
}

/// The output of `work`; `None` if it takes longer than `limit`.
pub(super) async fn in_time<T>(
    limit: Option<Duration>,
    work: impl Future<Output = T>,
) -> Option<T> {
    match limit {
        None => Some(work.await),
        Some(limit) => timeout(limit, work).await.ok(),
    }
}
