//! The spec of a program, by which Python's side loads it.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};

use super::{
    load::Load,
    load_error::{LoadError, LoadErrorKind},
    target,
};
use crate::{
    host::core::registry::Registrations,
    lm::{Lm, LmCombination},
};

impl Load {
    /// The spec, with the registrations of the LMs and tools that it names by number.
    pub(super) fn to_spec(&self) -> Result<(Value, Registrations), LoadError> {
        if self.source.is_none()
            && let Some(problem) = target::problem(&self.target)
        {
            return Err(self.fail(LoadErrorKind::Target, problem));
        }
        if self.max_in_flight == 0 || self.max_in_flight_per_tenant == Some(0) {
            return Err(self.fail(
                LoadErrorKind::Option,
                "with a `max_in_flight` or a `max_in_flight_per_tenant` of 0 no call could run: give \
                 it at least 1, or leave it out for the default",
            ));
        }
        let mut registrations = Registrations::default();
        let mut spec = json!({
            "target": self.target,
            "function": self.function,
            "carries_http": !self.keeps_httpx,
        });
        if let Some(source) = &self.source {
            static SOURCES: AtomicU64 = AtomicU64::new(1);
            let n = SOURCES.fetch_add(1, Ordering::Relaxed);
            spec["source"] = json!(source.code);
            spec["attribute"] = json!(source.attribute);
            spec["module"] = json!(format!("tower_dspy_source_{n}"));
        }
        if let Some(lm) = &self.lm {
            spec["lm"] = self.lm_config(lm, &mut registrations)?;
        }
        if !self.lms.is_empty() {
            let configs = self.lms.iter().map(|(name, lm)| {
                let mut config = self.lm_config(lm, &mut registrations)?;
                config["name"] = json!(name);
                Ok(config)
            });
            spec["lms"] = configs.collect::<Result<_, LoadError>>()?;
        }
        if !self.predictor_lms.is_empty() {
            spec["predictor_lms"] = json!(self.predictor_lms);
        }
        if let Some(state) = &self.state {
            spec["state"] = state.to_string_lossy().into();
            spec["trust_pickle"] = json!(self.trust_pickle);
        }
        spec["tools"] = self.tool_specs(&mut registrations)?.into();
        Ok((spec, registrations))
    }

    /// The configuration that Python's side builds an LM from.
    fn lm_config(&self, lm: &Lm, registrations: &mut Registrations) -> Result<Value, LoadError> {
        let group = lm.members();
        if let Some(group) =
            group.map_err(|error| self.fail(LoadErrorKind::Lm, error.to_string()))?
        {
            let members = group.members.iter();
            let members = members.map(|member| self.lm_config(member, registrations));
            let members = members.collect::<Result<Vec<_>, _>>()?;
            return Ok(match group.combination {
                LmCombination::Fallback { share } => json!({"members": members, "share": share}),
                LmCombination::Hedge { after } => {
                    json!({"members": members, "hedge_after": after.as_secs_f64()})
                }
            });
        }
        let id = self.host.core().add_lm(lm, registrations);
        let id = id.map_err(|error| self.fail(LoadErrorKind::Lm, error.to_string()))?;
        let mut config = lm.config();
        config["id"] = id.into();
        Ok(config)
    }

    fn tool_specs(&self, registrations: &mut Registrations) -> Result<Vec<Value>, LoadError> {
        let mut names = HashSet::new();
        let specs = self.tools.iter().map(|tool| {
            tool.check()?;
            if !names.insert(tool.name()) {
                return Err(format!("there are two tools `{}`", tool.name()));
            }
            Ok(tool.spec(self.host.core().add_tool(tool.clone(), registrations)?))
        });
        let specs = specs.collect::<Result<_, _>>();
        specs.map_err(|problem| self.fail(LoadErrorKind::Tool, problem))
    }
}
