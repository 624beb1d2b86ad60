//! The names of the LMs among which a request may choose.

use crate::error::InvalidInput;

/// None for a program with one LM.
#[derive(Clone, Debug, Default)]
pub(crate) struct LmNames(Box<[String]>);

impl<N: Into<String>> FromIterator<N> for LmNames {
    fn from_iter<I: IntoIterator<Item = N>>(names: I) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}

impl LmNames {
    /// Refuses the name of an LM that `program` was not loaded with.
    pub(crate) fn check(&self, program: &str, asked: Option<&str>) -> Result<(), InvalidInput> {
        let Some(asked) = asked else { return Ok(()) };
        if self.0.iter().any(|known| known == asked) {
            return Ok(());
        }
        let problem = format!("there is no LM `{asked}`");
        let expected = if self.0.is_empty() {
            "requests that choose none: it was loaded without `.lms(..)`".to_owned()
        } else {
            format!("one of the LMs `{}`", self.0.join("`, `"))
        };
        Err(InvalidInput::new(program, None, problem, expected))
    }
}
