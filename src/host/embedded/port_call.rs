//! A call in the interpreter of this process, as Python's runner sees it.

use std::{collections::BTreeMap, sync::Arc};

use pyo3::prelude::*;
use serde::de::DeserializeOwned;

use super::{convert, port_state::PortState, text::Text};
use crate::{
    call::CallId,
    host::core::{
        call_state::{BudgetLeft, Outcome},
        fault::Fault,
        running_call::RunningCall,
        tool,
    },
};

/// The port's side of one call that has been started.
#[pyclass(frozen)]
pub(super) struct PortCall {
    pub(super) call: RunningCall,
    pub(super) port: Arc<PortState>,
}

impl PortCall {
    pub(super) fn call_id(&self) -> Option<u64> {
        self.call.state.context.call_id.map(CallId::get)
    }

    pub(super) fn finish(&self, outcome: Outcome) {
        self.port.monitor.progress();
        self.call.finish(outcome);
    }

    fn resolve(&self, outcome: Outcome) {
        self.port.monitor.progress();
        self.call.resolve(outcome);
    }
}

#[pymethods]
impl PortCall {
    fn done(&self, value: &Bound<'_, PyAny>) {
        self.resolve(read(value));
    }

    fn failed(&self, described: &Bound<'_, PyAny>) {
        self.resolve(Err(read(described).unwrap_or_else(|fault| fault)));
    }

    fn stopped(&self) {
        self.resolve(Err(Fault::cancelled()));
    }

    fn settled(&self, strays: Option<Vec<Text>>) {
        let strays =
            strays.map(|names| names.into_iter().map(|Text(name)| name).collect::<Vec<_>>());
        self.call.settle(strays.as_deref());
    }

    /// Keeps a partial answer; false if the call is over.
    fn partial(&self, fields: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.call.keep_partial(convert::from_python(fields)?))
    }

    /// The fields that the reader of the call's stream chose; `None` if there is no reader.
    fn stream(&self) -> Option<(bool, Vec<(String, String)>)> {
        let stream = self.call.state.stream.as_ref()?;
        let chosen = stream.chosen.as_deref();
        Some((chosen.is_some(), chosen.unwrap_or_default().to_vec()))
    }

    fn stream_text(&self, lm_call: u64, delta: Text) {
        if let Some(buffer) = self.call.state.stream_buffer() {
            buffer.text(lm_call, &delta.0);
        }
    }

    fn stream_thinking(&self, lm_call: u64, delta: Text) {
        if let Some(buffer) = self.call.state.stream_buffer() {
            buffer.thinking(lm_call, delta.0);
        }
    }

    /// Another report of the stream; see stream_report.rs.
    fn stream_event(&self, report: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(buffer) = self.call.state.stream_buffer() {
            buffer.report(convert::from_python(report)?);
        }
        Ok(())
    }

    /// The program got an LM's answer by an exchange, with these tokens as DSPy reads them.
    fn stepped(&self, exchange: Option<u64>, counts: Option<(u64, u64, u64)>) {
        self.call.record_answer(exchange, counts);
    }

    /// The program calls a tool of its own, by a number of Python's side.
    fn tool_began(&self, number: u64, name: Text) {
        tool::begin_python(&self.call.state, number, &name.0);
    }

    fn tool_ended(&self, number: u64, failed: bool) {
        tool::end_python(&self.call.state, number, failed);
    }

    /// The program calls an LM that the host does not carry.
    fn bypassed(&self, lm: Text) {
        self.call.state.record_bypass(&lm.0);
    }

    /// The name of the LM that the caller asked for.
    fn lm(&self) -> Option<&str> {
        self.call.state.route.lm.as_deref()
    }

    /// What is left of the call's budgets.
    fn remaining_budget(&self) -> Option<BudgetLeft> {
        self.call.state.remaining_budget()
    }

    /// The trace that the call is part of.
    fn trace(&self) -> Option<BTreeMap<String, String>> {
        self.call.state.trace_headers()
    }

    /// Whether the call may call no LM any more.
    fn is_over(&self) -> bool {
        // A loop that this very call blocks does not read that the host stops.
        self.call.state.is_over() || self.port.core.queue.refusal().is_some()
    }

    /// Whether a limit of time ended the call.
    fn timed_out(&self) -> bool {
        self.call.state.has_timed_out()
    }

    /// The call is to stop: Rust closes its LM connections before Python signals it.
    fn cancel(&self) {
        self.call.state.cancel(None);
    }

    fn abandon(&self, working: bool) {
        self.call.abandon();
        if !working {
            // No code of it runs any more.
            self.call.state.end_work(&[]);
        }
    }
}

/// Reads an outcome; a failure to do so is one as well.
fn read<T: DeserializeOwned>(outcome: &Bound<'_, PyAny>) -> Result<T, Fault> {
    convert::from_python(outcome).map_err(|error| Fault::of(outcome.py(), &error))
}
