//! The log of a process that runs one test.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// Takes all that is logged from now on at `level` or above. Once in a process.
    pub(crate) fn from(level: &str) -> Self {
        Self::with_span_events(level, FmtSpan::NONE)
    }

    /// The same, and all spans, with the fields that they have at their beginning and at their end.
    pub(crate) fn with_spans(level: &str) -> Self {
        Self::with_span_events(level, FmtSpan::NEW | FmtSpan::CLOSE)
    }

    fn with_span_events(level: &str, events: FmtSpan) -> Self {
        let captured = Self::default();
        let writer = captured.clone();
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(level))
            .with_ansi(false)
            .with_span_events(events)
            .with_writer(move || writer.clone())
            .init();
        captured
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
