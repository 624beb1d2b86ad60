//! The events of one prediction: the response future of a streaming service, and its stream.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt, Stream, future::BoxFuture};
use tokio::{runtime::Handle, task::JoinSet};
use tracing::{Instrument, Span};

use super::{
    future::{AdmittedCall, RunningPrediction},
    program::Program,
    termination::ServiceTermination,
};
use crate::{
    call::{
        Cancel, StreamLimit,
        termination::{Terminated, Termination, pass_on_shared},
    },
    error::Error,
    host::core::{
        call_handle::CallSignal, call_state::CallStream, counters::GaugeGuard, runtime,
        stream_buffer::StreamBuffer,
    },
    request::{PredictRequest, Prediction},
    stream::{PredictionStream, StreamEvent},
};

/// Hands a call to the host; the stream is ready with its first event.
pub(super) fn submit(
    program: Arc<Program>,
    request: PredictRequest,
    admitted: AdmittedCall,
    stream: CallStream,
) -> BoxFuture<'static, Result<PredictionStream, Error>> {
    let limit = request.context.stream_limit();
    let (progress, cancel) = (
        request.context.progress.clone(),
        request.context.cancel.clone(),
    );
    let buffer = stream.buffer.clone();
    let open = program
        .host
        .core()
        .counters
        .gauge(|stats| &mut stats.streams);
    let (mut running, span) = RunningPrediction::start(program, request, admitted, Some(stream));
    let instrumented = span.clone();
    let response = async move {
        let answer = poll_fn(|cx| match buffer.poll_any(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => running.poll(cx).map(Some),
        });
        // An error before the first event.
        let answer = answer.await.transpose()?;
        let (mut watch, stopped) = (JoinSet::new(), Arc::<OnceLock<_>>::default());
        if answer.is_none() {
            let started = running.started;
            running.termination = ServiceTermination::of_stream(cancel.clone(), limit, started);
            if limit.is_some() || cancel.is_some() {
                let end = watch_end(cancel, limit, running.call.signal(), stopped.clone());
                spawn(&mut watch, end.instrument(span.clone()));
            }
        }
        let events = PredictionEvents {
            buffer,
            answer: answer.map(Ok),
            running,
            stopped,
            _watch: watch,
            _open: open,
            span,
        };
        Ok(PredictionStream::new(events).in_call(&progress))
    };
    response.instrument(instrumented).fuse().boxed()
}

/// Signals the work when the call is to end, also while nobody reads the stream.
///
/// A call whose work has answered is left alone: its answer waits to be read.
async fn watch_end(
    cancel: Cancel,
    limit: Option<StreamLimit>,
    signal: CallSignal,
    stopped: Arc<OnceLock<Terminated>>,
) {
    let mut shared = pass_on_shared(&cancel);
    let mut end = Box::pin(Termination::new(cancel, limit.map(|limit| limit.at)));
    let ended = poll_fn(|cx| {
        if let Some(shared) = &mut shared {
            let _ = shared.as_mut().poll(cx);
        }
        end.as_mut().poll(cx)
    });
    let ended = ended.await;
    // Noted first, or work that swallows the signal could answer before.
    signal.send_after(ended.cause(), || {
        stopped.get_or_init(|| ended);
    });
}

fn spawn(tasks: &mut JoinSet<()>, task: impl Future<Output = ()> + Send + 'static) {
    // The runtime of the caller, whose clock a test may have paused.
    if let Ok(callers) = Handle::try_current() {
        tasks.spawn_on(task, &callers);
    } else if let Ok(own) = runtime::handle() {
        tasks.spawn_on(task, own);
    }
}

/// The events of a prediction that the host runs.
struct PredictionEvents {
    buffer: Arc<StreamBuffer>,
    /// The answer or the error, which comes after the events.
    answer: Option<Result<Prediction, Error>>,
    running: RunningPrediction,
    /// Why the work was signalled to stop, if nobody read at that time.
    stopped: Arc<OnceLock<Terminated>>,
    /// Ends with the stream.
    _watch: JoinSet<()>,
    _open: GaugeGuard,
    span: Span,
}

impl PredictionEvents {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<StreamEvent, Error>> {
        loop {
            // What is ready wins against the clock.
            if let Some(event) = self.buffer.pop() {
                return Poll::Ready(Ok(event));
            }
            if let Some(answer) = self.answer.take() {
                let done = |prediction| StreamEvent::Done(Box::new(prediction));
                return Poll::Ready(answer.map(done));
            }
            if self.buffer.poll_any(cx).is_pending() {
                let by_reader = || self.running.termination.ended();
                let answer = match self.stopped.get().copied().or_else(by_reader) {
                    Some(ended) => self.running.stopped(ended),
                    None => ready!(self.running.poll(cx)),
                };
                // The events before the answer go first.
                self.answer = Some(answer);
            }
        }
    }
}

impl Stream for PredictionEvents {
    type Item = Result<StreamEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let span = self.span.clone();
        let _entered = span.enter();
        self.poll_event(cx).map(Some)
    }
}
