//! [`InvalidInput`]: inputs that do not fit a program.

use super::{
    Classify, Costs, ErrorKind,
    costs::{ErrorCosts, call_id_in_field},
    debug_as_display,
};
use crate::call::CallId;

/// The inputs do not fit the program's schema. Nothing ran and no LM was called.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}; `{}` expects {}", .0.problem, .0.program, .0.expected)]
pub struct InvalidInput(Box<InvalidInputFields>);

#[derive(Clone, PartialEq, Eq)]
struct InvalidInputFields {
    program: Box<str>,
    field: Option<Box<str>>,
    problem: Box<str>,
    expected: Box<str>,
    /// Only the id of the call: nothing was spent.
    call: ErrorCosts,
}

impl InvalidInput {
    /// A refusal as a mock in a test gives one: what is wrong, in which field if it is one, and
    /// what `program` expects instead.
    pub fn new(
        program: &str,
        field: Option<&str>,
        problem: impl Into<Box<str>>,
        expected: impl Into<Box<str>>,
    ) -> Self {
        Self(Box::new(InvalidInputFields {
            program: program.into(),
            field: field.map(Into::into),
            problem: problem.into(),
            expected: expected.into(),
            call: ErrorCosts::NONE,
        }))
    }

    /// The input field that is wrong; `None` if the inputs as a whole are.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// What is wrong.
    #[must_use]
    pub fn problem(&self) -> &str {
        &self.0.problem
    }

    /// What the program expects instead.
    #[must_use]
    pub fn expected(&self) -> &str {
        &self.0.expected
    }
}

impl Costs for InvalidInput {
    fn carried(&self) -> Option<&ErrorCosts> {
        Some(&self.0.call)
    }

    fn carried_mut(&mut self) -> Option<&mut ErrorCosts> {
        Some(&mut self.0.call)
    }
}

call_id_in_field!(InvalidInput, 0.call);

debug_as_display!(InvalidInput);

impl Classify for InvalidInput {
    fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }

    fn may_have_started(&self) -> bool {
        false
    }
}
