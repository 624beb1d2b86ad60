//! The scripts, the records and the signal of change that the server and the tests share.

use std::collections::BTreeMap;

use tokio::sync::watch;

use super::{Reply, RequestRecord, Script, Summary};

#[derive(Clone, Debug, Default)]
pub(super) struct RequestLedger(pub(super) watch::Sender<RequestLedgerState>);

#[derive(Debug, Default)]
pub(super) struct RequestLedgerState {
    models: BTreeMap<String, ModelLedger>,
    connections: usize,
}

#[derive(Debug, Default)]
struct ModelLedger {
    script: Script,
    /// Requests since the script was set.
    scripted: usize,
    /// Requests whose records are gone.
    forgotten: usize,
    records: Vec<RequestRecord>,
}

impl ModelLedger {
    fn requests(&self) -> usize {
        self.forgotten + self.records.len()
    }

    fn record(&mut self, n: usize) -> Option<&mut RequestRecord> {
        self.records.get_mut(n.checked_sub(self.forgotten)?)
    }
}

impl RequestLedger {
    fn change(&self, change: impl FnOnce(&mut RequestLedgerState)) {
        self.0.send_modify(change);
    }

    pub(super) fn script(&self, model: String, script: Script) {
        self.change(|state| {
            let model = state.models.entry(model).or_default();
            model.script = script;
            model.scripted = 0;
        });
    }

    /// Enters a request, and returns the reply to it.
    pub(super) fn arrive(&self, mut record: RequestRecord) -> (Reply, RequestEntry) {
        let mut entry = RequestEntry {
            ledger: self.clone(),
            model: record.model.clone(),
            n: 0,
        };
        let mut reply = Reply::echo();
        self.change(|state| {
            let model = state.models.entry(record.model.clone()).or_default();
            reply = model.script.reply(model.scripted);
            model.scripted += 1;
            entry.n = model.requests();
            record.n = entry.n;
            model.records.push(record);
        });
        (reply, entry)
    }

    pub(super) fn connect(&self) -> ConnectionGuard {
        self.change(|state| state.connections += 1);
        ConnectionGuard(self.clone())
    }

    pub(super) fn models(&self) -> Vec<String> {
        self.0.borrow().models.keys().cloned().collect()
    }

    pub(super) fn requests(&self, model: &str) -> Vec<RequestRecord> {
        let state = self.0.borrow();
        let model = state.models.get(model);
        model.map(|model| model.records.clone()).unwrap_or_default()
    }

    pub(super) fn forget(&self, model: &str) {
        self.change(|state| {
            if let Some(model) = state.models.get_mut(model) {
                model.forgotten = model.requests();
                model.records = Vec::new();
            }
        });
    }

    /// Counts the requests of every model whose name starts with `prefix`.
    pub(super) fn summary(&self, prefix: &str) -> Summary {
        let state = self.0.borrow();
        let models = state.models.iter().filter(|(m, _)| m.starts_with(prefix));
        Summary::of(models.flat_map(|(_, model)| &model.records))
    }

    pub(super) fn connections(&self) -> usize {
        self.0.borrow().connections
    }
}

/// A request at work. Dropped before [`answered`](RequestEntry::answered), it records that the client
/// is gone: hyper drops the work of a connection when it sees the connection closed.
#[derive(Debug)]
pub(super) struct RequestEntry {
    ledger: RequestLedger,
    model: String,
    pub(super) n: usize,
}

impl RequestEntry {
    pub(super) fn token(&self) {
        self.edit(RequestRecord::token);
    }

    pub(super) fn answered(self) {
        self.edit(RequestRecord::answered);
    }

    fn edit(&self, edit: impl FnOnce(&mut RequestRecord)) {
        self.ledger.change(|state| {
            let model = state.models.get_mut(&self.model);
            if let Some(record) = model.and_then(|model| model.record(self.n)) {
                edit(record);
            }
        });
    }
}

impl Drop for RequestEntry {
    fn drop(&mut self) {
        self.edit(RequestRecord::gone);
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct ConnectionGuard(RequestLedger);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.change(|state| state.connections -= 1);
    }
}
