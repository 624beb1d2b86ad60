//! The names of the LMs among which a request may choose.

use super::meant::did_you_mean;
use crate::error::InvalidInput;

/// Refuses the name of an LM that is not among those that `program` was loaded with by `.lms(..)`.
pub(crate) fn check(
    known: &[String],
    program: &str,
    asked: Option<&str>,
) -> Result<(), InvalidInput> {
    let Some(asked) = asked.filter(|asked| !known.iter().any(|known| known == asked)) else {
        return Ok(());
    };
    let meant = did_you_mean(asked, known.iter().map(String::as_str));
    let problem = format!("there is no LM `{asked}`{meant}");
    let expected = if known.is_empty() {
        "requests that choose none: it was loaded without `.lms(..)`".to_owned()
    } else {
        format!("one of the LMs `{}`", known.join("`, `"))
    };
    Err(InvalidInput::new(program, None, problem, expected))
}
