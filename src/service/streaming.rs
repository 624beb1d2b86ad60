//! A program as a service whose answers are streams.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tower::Service;

use super::{DspyService, prediction_events};
use crate::{
    error::{Error, InvalidInput},
    host::core::call_state::{CallStream, ChosenFields},
    request::PredictRequest,
    stream::PredictionStream,
};

/// A DSPy program as a [`tower::Service`] whose answers are read as they are written: from
/// [`DspyService::streaming`].
///
/// ```no_run
/// use std::time::Duration;
///
/// use futures_util::StreamExt;
/// use serde_json::json;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_dspy::{
///     DeadlineLayer, DspyService, PredictRequest, RetryLayer, StreamEvent, TimeoutLayer,
/// };
///
/// # async fn example(qa: DspyService) -> Result<(), tower_dspy::Error> {
/// let qa = ServiceBuilder::new()
///     .layer(DeadlineLayer::new(Duration::from_secs(60))) // of the whole stream
///     .layer(RetryLayer::new(2)) // until the first event
///     .layer(TimeoutLayer::new(Duration::from_secs(5))) // of the time to the first event
///     .service(qa.streaming());
///
/// let mut answer = qa.oneshot(PredictRequest::new(json!({"question": "Why?"}))).await?;
/// while let Some(event) = answer.next().await {
///     match event? {
///         StreamEvent::Text { delta, .. } => print!("{delta}"),
///         StreamEvent::Done(prediction) => println!("\n{:?}", prediction.usage),
///         _ => {}
///     }
/// } // dropped before its end, the stream cancels the call
/// # Ok(())
/// # }
/// ```
///
/// # What it does to a request
/// As [`DspyService`]. **The future is ready with the first event**, so what layers do to a call ends
/// there: an attempt's limit is that of the time until then, and a retry, a hedge or a fallback
/// never joins two answers. An error before the first event is the error of the future. A program
/// that streams nothing has one event, its answer.
///
/// # What is streamed
/// The LM calls of predictors that have a chosen field: [of all predictors](Self::stream_fields) those
/// text fields (`str`) whose names are text outputs of the program. The LM is asked for a stream for
/// these alone. An LM whose client cannot stream sends its text in one piece.
///
/// # Limits
/// The deadline in the request's context and its cancellation bound the whole stream, also while
/// nobody reads it: then the call is stopped, and the stream's last item is the error. A limit of a
/// [`TimeoutLayer`](crate::TimeoutLayer), or the share or reserve of another layer, ends with
/// the response; their grace does, too. [`StreamTimeoutLayer`](crate::StreamTimeoutLayer) adds limits
/// of the time without an event.
///
/// A permit of the program is held until all work has ended, as by any other call of it.
///
/// # Slow readers
/// At most some 50 KiB of text wait for the reader, for each task or thread of the program that writes.
/// A program whose reader is slower than its LM waits, and the LM's answer is not read meanwhile.
/// It also waits after an answer that came whole, and before an LM call if its tools and statuses have
/// sent as much; these hold nothing up by themselves, and where many statuses wait, a later one takes
/// the place of the one before it. Sync code on an event loop does not wait, so that nothing else is
/// held up. [`HostStats::reader_stalls`](crate::HostStats) counts the waits.
///
/// # Cancel safety
/// Dropping the future or the stream cancels the call.
#[derive(Clone, Debug)]
pub struct StreamingService {
    program: DspyService,
    chosen: ChosenFields,
}

impl DspyService {
    /// The same program, with answers that are read as they are written. The two share the permits.
    #[must_use]
    pub fn streaming(&self) -> StreamingService {
        StreamingService {
            program: self.clone(),
            chosen: None,
        }
    }
}

impl StreamingService {
    /// Streams these fields, each by its predictor's name, as in `named_predictors()`, and its own:
    /// no others. With none, only what the program itself reports is streamed.
    ///
    /// # Errors
    /// If the program has no such predictor, or that has no such text field.
    pub fn stream_fields<P, F>(
        mut self,
        fields: impl IntoIterator<Item = (P, F)>,
    ) -> Result<Self, InvalidInput>
    where
        P: Into<String>,
        F: Into<String>,
    {
        let fields = fields
            .into_iter()
            .map(|(predictor, field)| (predictor.into(), field.into()));
        let fields: Arc<[(String, String)]> = fields.collect();
        for (predictor, field) in &*fields {
            self.program.program.check_text_field(predictor, field)?;
        }
        self.chosen = Some(fields);
        Ok(self)
    }

    /// The program whose answers are streamed.
    #[must_use]
    pub const fn program(&self) -> &DspyService {
        &self.program
    }
}

impl Service<PredictRequest> for StreamingService {
    type Response = PredictionStream;
    type Error = Error;
    type Future = BoxFuture<'static, Result<PredictionStream, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.program.poll_ready(cx)
    }

    fn call(&mut self, mut request: PredictRequest) -> Self::Future {
        let id = request.context.id();
        let stream = CallStream {
            chosen: self.chosen.clone(),
            ..CallStream::default()
        };
        match self.program.admit(&request) {
            Ok(admitted) => {
                prediction_events::submit(self.program.program.clone(), request, admitted, stream)
            }
            Err(error) => super::future::refused(error.with_call_id(id)),
        }
    }
}
