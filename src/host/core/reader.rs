//! The wait of a program for the reader of its stream: an exchange.

use std::pin::pin;

use futures_util::FutureExt;
use serde_json::Value;
use tokio::{task::AbortHandle, time::Instant};

use super::{
    call_state::CallState, counters::HostCounters, event::Event, exchange::NewExchange,
    stream_buffer::StreamBuffer,
};

/// Begins an exchange whose one event comes when the reader of the call's stream has read enough;
/// `None` if the call is over.
pub(crate) fn wait(exchange: NewExchange) -> Result<Option<AbortHandle>, String> {
    let call = exchange.call.clone();
    exchange.start(|_| async move {
        if let Some(call) = call
            && let Some(stream) = &call.stream
        {
            read_enough(&call, &stream.buffer).await;
        }
        Event::Value(Value::Null)
    })
}

/// Waits until the reader has read enough.
async fn read_enough(call: &CallState, buffer: &StreamBuffer) {
    let mut read = pin!(buffer.read_enough());
    if read.as_mut().now_or_never().is_none() {
        let _stall = ReaderStall::begin(call);
        read.await;
    }
}

/// A wait in which the reader holds the program up. It is counted when it begins, and its time
/// however it ends.
struct ReaderStall<'a> {
    counters: &'a HostCounters,
    since: Instant,
}

impl<'a> ReaderStall<'a> {
    fn begin(call: &'a CallState) -> Self {
        call.counters.lock().reader_stalls += 1;
        Self {
            counters: &call.counters,
            since: Instant::now(),
        }
    }
}

impl Drop for ReaderStall<'_> {
    fn drop(&mut self) {
        self.counters.lock().reader_stalled += self.since.elapsed();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use tokio::time::advance;
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;
    use crate::{
        call::{CallContext, WorkGuard},
        request::Route,
    };

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_counted_once_it_begins_and_its_time_however_it_ends() {
        let counters = HostCounters::new(0);
        let (context, route) = (CallContext::new(), Route::default());
        let call = CallState::new(
            context,
            WorkGuard::default(),
            route,
            None,
            None,
            counters.clone(),
        );
        let counted = || {
            let stats = counters.lock();
            (stats.reader_stalls, stats.reader_stalled)
        };
        let buffer = StreamBuffer::default();
        assert_ready!(task::spawn(read_enough(&call, &buffer)).poll());
        assert_eq!(counted(), (0, Duration::ZERO));

        let long = json!({"status": {"message": "x".repeat(64 << 10)}});
        buffer.report(serde_json::from_value(long).expect("a report"));
        let mut dropped = task::spawn(read_enough(&call, &buffer));
        assert_pending!(dropped.poll());
        assert_eq!(counted(), (1, Duration::ZERO));
        advance(SECOND).await;
        drop(dropped);
        assert_eq!(counted(), (1, SECOND));

        let mut read = task::spawn(read_enough(&call, &buffer));
        assert_pending!(read.poll());
        advance(SECOND).await;
        assert!(buffer.pop().is_some() && read.is_woken());
        assert_ready!(read.poll());
        assert_eq!(counted(), (2, 2 * SECOND));
    }
}
