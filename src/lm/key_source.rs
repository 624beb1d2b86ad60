//! The key of an LM, from where the LM takes it.

use super::{
    config_error::LmConfigError,
    key::{Origin, SecretKey, problem_of},
    model::{Lm, LmKey},
    provider::LmProvider,
    variable_name,
};

/// The key of an LM that is at `origin`, if it has one.
///
/// # Errors
/// If there is none and the provider wants one, or it cannot be sent.
pub(super) fn key(
    lm: &Lm,
    provider: &LmProvider,
    origin: Option<&Origin>,
) -> Result<Option<SecretKey>, LmConfigError> {
    let usual = &provider.variables;
    let (key, variable) = match &lm.key {
        // DSPy's guide to local LMs has it so.
        LmKey::Given(key) if key.is_empty() => return Ok(None),
        LmKey::Given(key) => (Some(key.clone()), None),
        LmKey::By(_) | LmKey::Token(_) => return Ok(None),
        LmKey::Env(variable) => {
            variable_name::check(&lm.model, variable)?;
            (std::env::var(variable).ok(), Some(variable))
        }
        LmKey::ProvidersOwn => {
            let mut set = usual.iter().filter_map(|name| std::env::var(name).ok());
            let key = set.find(|key| !key.trim().is_empty());
            // A server of one's own, which is what a base URL mostly is, may want no key.
            let is_own = lm.base_url.is_some() || origin.is_some_and(Origin::is_local);
            if key.is_none() && (usual.is_empty() || is_own || provider.has_credentials) {
                return Ok(None);
            }
            (key, usual.first())
        }
    };
    let is_empty = key.is_some();
    let (key, model) = (key.unwrap_or_default(), lm.model.clone());
    match (SecretKey::new(&key), variable) {
        (Some(key), _) => Ok(Some(key)),
        (None, Some(variable)) if key.trim().is_empty() => Err(LmConfigError::NoKey {
            model,
            variable: variable.clone(),
            is_empty,
        }),
        (None, variable) => Err(LmConfigError::BadKey {
            model,
            variable: variable.cloned(),
            problem: problem_of(&key),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lm: &Lm) -> Result<(), LmConfigError> {
        key(lm, &LmProvider::default(), None).map(drop)
    }

    #[test]
    fn the_error_for_a_missing_key_names_the_variable() {
        let lm = Lm::new("openai/x").key_env("TOWER_DSPY_NO_SUCH_VARIABLE");
        let error = check(&lm).expect_err("it is not set");
        assert!(
            error.to_string().contains("$TOWER_DSPY_NO_SUCH_VARIABLE"),
            "{error}"
        );
    }

    #[test]
    fn a_key_that_cannot_be_sent_is_refused_with_the_reason_and_not_shown() {
        for (key, problem) in [
            ("\"secret\"", "quotes around it"),
            ("sec\nret", "a line break within"),
            ("sec ret", "a space within"),
        ] {
            let error = check(&Lm::new("openai/x").key(key)).expect_err("no key");
            assert!(error.to_string().contains(problem), "{error}");
            assert!(!format!("{error:?}").contains("sec"), "{error}");
        }
        // The line break that a file ends with is no part of a key.
        check(&Lm::new("openai/x").key("secret\n")).expect("a key");
    }
}
