//! The alarm of the layers that cancel.

use std::{sync::Arc, time::Duration};

use super::{Alarm, Grace, Guard};
use crate::{
    call::{
        CallContext, CallId, CallTag, Cancel, Cause, Enclosing, Spent,
        termination::{Terminated, Termination},
    },
    error::{Cancelled, Stage},
};

/// Rings when a call's node is cancelled, or a node shared by many calls.
#[derive(Debug, Default)]
pub struct CancelAlarm {
    node: Cancel,
    shared: Option<Cancel>,
}

impl Guard<CancelAlarm> {
    /// Watches the context's node, with a grace of `grace`; and `shared`, which then cancels that node
    /// too.
    #[inline]
    pub(crate) fn watch(
        shared: Option<Cancel>,
        grace: Duration,
        context: &mut CallContext,
    ) -> Self {
        let enclosing = context.enclosing();
        let grace = Grace::of_cancel(grace, shared.clone(), context);
        let alarm = CancelAlarm {
            node: context.cancel.clone(),
            shared,
        };
        let mut guard = Self::new(alarm, enclosing, CallTag::of(context));
        guard.grace = grace;
        guard.record.clone_from(&context.record);
        guard
    }

    /// Leaves the work alone: nothing can cancel it.
    #[inline]
    pub(crate) fn none(tag: CallTag) -> Self {
        Self::new(CancelAlarm::default(), Enclosing::default(), tag)
    }
}

impl Alarm for CancelAlarm {
    type Error = Cancelled;

    fn termination(&self) -> Option<Termination> {
        let node = self.node.is_some().then(|| self.node.clone())?;
        Some(Termination::new(node, None).with_shared(self.shared.clone()))
    }

    fn cause(&mut self, ended: Terminated) -> Cause {
        ended.cause()
    }

    fn error(
        &self,
        cause: Cause,
        _: Stage,
        spent: Option<Arc<Spent>>,
        call: Option<CallId>,
    ) -> Cancelled {
        Cancelled::new(cause).with_spent(spent).with_call_id(call)
    }
}
