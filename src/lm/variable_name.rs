//! The name of the variable that an LM takes its key from.

use super::{config_error::LmConfigError, redact::Redact};

/// The length from which a word of lower-case letters and digits is taken for a key.
const SHORTEST_KEY: usize = 20;

/// Whether it is the name of a variable, and no key that looks like one.
pub(super) fn is_variable_name(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
    let is_name = starts
        && name
            .bytes()
            .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
    is_name && !may_be_key(name) && Redact::new(None).text(name) == name
}

/// Whether a word is as long and as mixed as keys without a prefix are.
fn may_be_key(name: &str) -> bool {
    let has = |of: fn(&u8) -> bool| name.bytes().any(|byte| of(&byte));
    name.len() >= SHORTEST_KEY && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit)
}

/// Refuses what is no name of a variable, as a key that was given in place of one.
pub(super) fn check(model: &str, name: &str) -> Result<(), LmConfigError> {
    let refuse = |given: String| {
        Err(LmConfigError::Variable {
            model: model.to_owned(),
            given,
        })
    };
    if let Some(bare) = name.strip_prefix('$')
        && is_variable_name(bare)
    {
        return refuse(format!("`{name}`: leave out the `$`, `{bare}`"));
    }
    if is_variable_name(name) {
        return Ok(());
    }
    refuse(
        "something else, which is not shown, as it may be the key: give the key itself by `Lm::key`"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::{super::model::Lm, *};

    #[test]
    fn a_key_in_place_of_the_name_of_its_variable_is_refused_and_not_shown() {
        for key in [
            "sk-proj-0123456789abcdef",
            "sk_live_0123456789abcdef",
            "f3b1c05a9d7e4f2688aa01b2c3d4e5f6",
            "Zx8kQw1LmN0pRs7TuV2yAb3C",
            "a key",
        ] {
            let lm = Lm::new("openai/x").key_env(key);
            let error = check("openai/x", key).expect_err("no name");
            assert!(matches!(error, LmConfigError::Variable { .. }), "{error}");
            assert!(error.to_string().contains("by `Lm::key`"), "{error}");
            assert!(
                !format!("{error} {error:?} {lm:?}").contains(key),
                "{error}"
            );
        }
        for name in [
            "OPENAI_API_KEY",
            "key2",
            "my_own_key_of_openai",
            "TEAM_2_KEY_FOR_ANTHROPIC",
        ] {
            assert!(check("openai/x", name).is_ok(), "{name}");
        }
        let error = check("openai/x", "$MY_KEY").expect_err("no name");
        assert!(error.to_string().contains("leave out the `$`"), "{error}");
    }
}
