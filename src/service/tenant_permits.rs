//! [`TenantPermits`]: how many calls of one tenant may be in flight at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::request::Tenant;

/// The calls in flight by tenant; those without a tenant count as of one. A tenant without a call in
/// flight takes no memory.
#[derive(Clone, Debug, Default)]
pub(super) struct TenantPermits(Arc<Mutex<TenantCalls>>);

type TenantCalls = HashMap<Option<Tenant>, usize>;

impl TenantPermits {
    /// A permit of this tenant; `None` if it holds `most` already.
    pub(super) fn try_acquire(&self, tenant: Option<&Tenant>, most: usize) -> Option<TenantPermit> {
        let mut calls = self.calls();
        let held = calls.get(&tenant.cloned()).copied().unwrap_or(0);
        if held >= most {
            return None;
        }
        calls.insert(tenant.cloned(), held + 1);
        Some(TenantPermit {
            permits: self.clone(),
            tenant: tenant.cloned(),
        })
    }

    fn calls(&self) -> MutexGuard<'_, TenantCalls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call of a tenant, until this is dropped.
#[derive(Debug)]
pub(crate) struct TenantPermit {
    permits: TenantPermits,
    tenant: Option<Tenant>,
}

impl Drop for TenantPermit {
    fn drop(&mut self) {
        let mut calls = self.permits.calls();
        if let Some(held) = calls.get_mut(&self.tenant) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                calls.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_its_own_permits_and_is_forgotten_without_calls() {
        let permits = TenantPermits::default();
        let tenants = [Some(Tenant::new("a")), Some(Tenant::new("b")), None];
        let held: Vec<_> = tenants
            .iter()
            .flat_map(|tenant| {
                let two = [0, 1].map(|_| permits.try_acquire(tenant.as_ref(), 2));
                assert!(permits.try_acquire(tenant.as_ref(), 2).is_none());
                two
            })
            .collect();
        assert!(held.iter().all(Option::is_some));
        drop(held);
        assert!(permits.calls().is_empty());
    }
}
