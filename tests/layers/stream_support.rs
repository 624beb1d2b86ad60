//! Streams that tests read, and what they gave.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep};
use tower_dspy::{
    Cause, Elapsed, Error, Prediction, PredictionStream, Scope, StreamEvent, drop_scope,
};

pub(crate) fn text(delta: &str) -> StreamEvent {
    StreamEvent::Text {
        lm_call: 1,
        predictor: "self".into(),
        field: "answer".into(),
        delta: delta.into(),
    }
}

/// What a stream gave until it ended.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) text: String,
    pub(crate) end: Result<Prediction, Error>,
    pub(crate) took: Duration,
}

impl Read {
    #[track_caller]
    pub(crate) fn elapsed(&self) -> (Scope, Duration) {
        match &self.end {
            Err(Error::Elapsed(elapsed)) => (elapsed.scope(), Elapsed::limit(elapsed)),
            other => panic!("{other:?}"),
        }
    }
}

/// Reads to the end, and takes `pause` over each event.
pub(crate) async fn read(mut stream: PredictionStream, pause: Duration) -> Read {
    let (start, mut text) = (Instant::now(), String::new());
    loop {
        let end = match stream.next().await.expect("an end before `None`") {
            Ok(StreamEvent::Done(prediction)) => Ok(*prediction),
            Err(error) => Err(error),
            Ok(event) => {
                if let StreamEvent::Text { delta, .. } = event {
                    text += &delta;
                }
                sleep(pause).await;
                continue;
            }
        };
        assert!(stream.next().await.is_none());
        let took = start.elapsed();
        return Read { text, end, took };
    }
}

/// A stream of another crate's: texts that come at these times after each other and, unless it
/// `hangs`, the answer. It knows no limits, and records the cause of its drop.
pub(crate) fn foreign(pauses: &[Duration], hangs: bool, drops: &Drops) -> PredictionStream {
    let probe = Probe(drops.clone());
    let texts = stream::iter(pauses.to_vec()).then(|pause| async move {
        sleep(pause).await;
        Ok(text("a"))
    });
    let done = StreamEvent::Done(Box::new(Prediction::new(Default::default())));
    let end = match hangs {
        true => stream::pending().boxed(),
        false => stream::iter([Ok(done)]).boxed(),
    };
    PredictionStream::new(texts.chain(end).inspect(move |_| probe.lives()))
}

pub(crate) type Drops = Arc<Mutex<Vec<Cause>>>;

struct Probe(Drops);

impl Probe {
    fn lives(&self) {
        assert!(self.0.lock().unwrap().is_empty());
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(drop_scope::cause());
    }
}
