//! What the server and the tests share: the scripts, the records, and a signal of change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::record::Arrival;
use super::{Reply, RequestRecord, Script};

#[derive(Debug, Default)]
pub(super) struct Ledger {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    models: BTreeMap<String, Model>,
    connections: usize,
}

#[derive(Debug, Default)]
struct Model {
    script: Script,
    /// Requests since the script was set.
    scripted: usize,
    /// Requests whose records are gone.
    forgotten: usize,
    records: Vec<RequestRecord>,
}

impl Model {
    fn requests(&self) -> usize {
        self.forgotten + self.records.len()
    }

    fn record(&mut self, n: usize) -> Option<&mut RequestRecord> {
        self.records.get_mut(n.checked_sub(self.forgotten)?)
    }
}

impl Ledger {
    /// Nothing is left half done while the lock is held, so a panic elsewhere spoils nothing.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.send_replace(());
        result
    }

    /// Signals each change from now on; changes may be lumped together.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn script(&self, model: String, script: Script) {
        self.change(|state| {
            let model = state.models.entry(model).or_default();
            model.script = script;
            model.scripted = 0;
        });
    }

    /// Enters a request, and says how to reply to it.
    pub(super) fn arrive(self: &Arc<Self>, arrival: Arrival) -> (Reply, Entry) {
        let name = arrival.model.clone();
        let (reply, n) = self.change(|state| {
            let model = state.models.entry(name.clone()).or_default();
            let reply = model.script.reply(model.scripted);
            model.scripted += 1;
            let n = model.requests();
            model.records.push(RequestRecord::new(n, arrival));
            (reply, n)
        });
        let entry = Entry {
            ledger: Arc::clone(self),
            model: name,
            n,
            answered: false,
        };
        (reply, entry)
    }

    pub(super) fn connect(self: &Arc<Self>) -> Connected {
        self.change(|state| state.connections += 1);
        Connected(Arc::clone(self))
    }

    pub(super) fn models(&self) -> Vec<String> {
        self.state().models.keys().cloned().collect()
    }

    pub(super) fn requests(&self, model: &str) -> Vec<RequestRecord> {
        let state = self.state();
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

    /// Reads the records of every model whose name starts with `prefix`.
    pub(super) fn read<T>(
        &self,
        prefix: &str,
        read: impl FnOnce(&mut dyn Iterator<Item = &RequestRecord>) -> T,
    ) -> T {
        let state = self.state();
        let models = state.models.iter().filter(|(m, _)| m.starts_with(prefix));
        read(&mut models.flat_map(|(_, model)| &model.records))
    }

    pub(super) fn connections(&self) -> usize {
        self.state().connections
    }
}

/// A request at work. Dropped before [`answered`](Entry::answered), it records that the client
/// is gone: hyper drops the work of a connection when it sees the connection closed.
#[derive(Debug)]
pub(super) struct Entry {
    ledger: Arc<Ledger>,
    model: String,
    n: usize,
    answered: bool,
}

impl Entry {
    pub(super) fn n(&self) -> usize {
        self.n
    }

    pub(super) fn token(&self) {
        self.edit(RequestRecord::token);
    }

    pub(super) fn answered(mut self) {
        self.answered = true;
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

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.answered {
            self.edit(RequestRecord::gone);
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connected(Arc<Ledger>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.change(|state| state.connections -= 1);
    }
}
