//! The answered calls of a tracker whose work goes on.

use std::sync::Arc;

use crate::call::record::CallRecord;

/// Answered calls whose work went on when they were last looked at.
#[derive(Default)]
pub(super) struct UnsettledCalls {
    calls: Vec<Arc<CallRecord>>,
    look_at: usize,
}

impl UnsettledCalls {
    /// Adds a call. Those whose work has ended are forgotten once there are twice as many calls as after
    /// the last look.
    pub(super) fn add(&mut self, record: Arc<CallRecord>) {
        const FEW: usize = 16;
        if self.calls.len() >= self.look_at.max(FEW) {
            self.forget_settled();
        }
        self.calls.push(record);
    }

    /// All of them. Some may be settled.
    pub(super) fn list(&mut self) -> Vec<Arc<CallRecord>> {
        self.forget_settled();
        self.calls.clone()
    }

    fn forget_settled(&mut self) {
        self.calls.retain(|record| record.is_at_work());
        self.look_at = self.calls.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_calls_are_forgotten() {
        let mut calls = UnsettledCalls::default();
        for _ in 0..1000 {
            calls.add(CallRecord::open());
        }
        assert!(calls.calls.len() <= 17);
        assert!(calls.list().is_empty());
    }
}
