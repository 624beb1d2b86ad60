//! The options of `dspy.LM` that a host gives itself.

use super::{config_error::LmConfigError, model::Lm};

/// Refuses options that are given by methods of [`Lm`].
pub(super) fn check(lm: &Lm) -> Result<(), LmConfigError> {
    for option in lm.options.keys() {
        if let Some(instead) = instead_of(option) {
            return Err(LmConfigError::Option {
                model: lm.model.clone(),
                option: option.clone(),
                instead,
            });
        }
    }
    Ok(())
}

/// What to do instead of giving this option of `dspy.LM`, if it is the host's to give.
fn instead_of(option: &str) -> Option<&'static str> {
    Some(match option {
        "api_key" => "give the key by `Lm::key`, `Lm::key_env` or `Lm::key_with`",
        "api_base" | "base_url" => "give the address by `Lm::base_url`",
        "model" => "give the model to `Lm::new`",
        "num_retries" => "put a `RetryLayer` around the LM by `Lm::layer`",
        "cache" => "a host does not cache what LMs answer; put a caching layer around the LM",
        "async_engine" | "provider" => "it is a Python object, which a host cannot carry",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_with_a_method_of_their_own_are_refused_by_name() {
        for option in [
            "api_base",
            "api_key",
            "async_engine",
            "base_url",
            "cache",
            "model",
            "num_retries",
            "provider",
        ] {
            let lm = Lm::new("openai/x").key("k").option(option, "value");
            let error = check(&lm).expect_err("it is ours").to_string();
            assert!(error.contains(option), "{error}");
        }
        let lm = Lm::new("openai/x")
            .key("k")
            .option("reasoning_effort", "low");
        check(&lm).expect("it is DSPy's");
    }
}
