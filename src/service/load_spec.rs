//! The spec of a program, by which Python's side loads it.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::{Map, Value, json};

use super::{
    load::Load,
    load_error::{LoadError, LoadErrorKind},
};
use crate::{
    host::core::registry::Registrations,
    lm::{Lm, LmConfigError},
};

impl Load {
    /// The spec, with the registrations of the LMs and tools that it names by number.
    pub(super) fn to_spec(&self) -> Result<(Value, Registrations), LoadError> {
        if self.source.is_none() && !self.target.contains("->") && !self.target.contains(':') {
            return Err(self.fail(
                LoadErrorKind::Target,
                "it is neither `package.module:attribute` nor a signature such as \
                 `question -> answer`",
            ));
        }
        let mut registrations = Registrations::default();
        let spec = self.spec(&mut registrations);
        let spec = spec.map_err(|error| self.fail(LoadErrorKind::Lm, error.to_string()))?;
        let spec = self.with_tools(spec, &mut registrations);
        let spec = spec.map_err(|problem| self.fail(LoadErrorKind::Tool, problem))?;
        Ok((spec, registrations))
    }

    /// The configuration that Python's side builds an LM from.
    fn lm_config(
        &self,
        lm: &Lm,
        registrations: &mut Registrations,
    ) -> Result<Value, LmConfigError> {
        let id = self.host.core().add_lm(lm, registrations)?;
        let mut config = lm.config();
        config["id"] = id.into();
        Ok(config)
    }

    fn with_tools(
        &self,
        mut spec: Map<String, Value>,
        registrations: &mut Registrations,
    ) -> Result<Value, String> {
        let mut names = HashSet::new();
        let specs = self.tools.iter().map(|tool| {
            tool.check()?;
            if !names.insert(tool.name()) {
                return Err(format!("there are two tools `{}`", tool.name()));
            }
            Ok(tool.spec(self.host.core().add_tool(tool.clone(), registrations)?))
        });
        let specs = specs.collect::<Result<Vec<_>, _>>()?;
        spec.insert("tools".into(), specs.into());
        Ok(Value::Object(spec))
    }

    fn spec(&self, registrations: &mut Registrations) -> Result<Map<String, Value>, LmConfigError> {
        static SOURCES: AtomicU64 = AtomicU64::new(1);
        let mut spec = Map::new();
        spec.insert("target".into(), self.target.clone().into());
        spec.insert("function".into(), self.function.into());
        if let Some(source) = &self.source {
            let n = SOURCES.fetch_add(1, Ordering::Relaxed);
            spec.insert("source".into(), source.code.clone().into());
            spec.insert("attribute".into(), source.attribute.clone().into());
            spec.insert("module".into(), format!("tower_dspy_source_{n}").into());
        }
        if let Some(lm) = &self.lm {
            spec.insert("lm".into(), self.lm_config(lm, registrations)?);
        }
        if !self.lms.is_empty() {
            let configs = self.lms.iter().map(|(name, lm)| {
                let mut config = self.lm_config(lm, registrations)?;
                config["name"] = name.as_str().into();
                Ok(config)
            });
            let configs = configs.collect::<Result<Vec<_>, LmConfigError>>()?;
            spec.insert("lms".into(), configs.into());
        }
        if !self.predictor_lms.is_empty() {
            spec.insert("predictor_lms".into(), json!(self.predictor_lms));
        }
        spec.insert("carries_http".into(), (!self.keeps_httpx).into());
        if let Some(state) = &self.state {
            spec.insert("state".into(), json!(state));
            spec.insert("trust_pickle".into(), self.trust_pickle.into());
        }
        Ok(spec)
    }
}
