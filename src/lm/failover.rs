//! LMs that are made of several: [`Lm::fallback`] and [`Lm::hedge`].

use std::time::Duration;

use super::{
    config_error::LmConfigError,
    group::{LmCombination, LmGroup},
    model::Lm,
};

impl Lm {
    /// An LM made of several: where one fails, the LM call goes on to the next, which may be another
    /// provider's, in another dialect.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_dspy::{Lm, RetryLayer, lm::LmLimits};
    ///
    /// let lm = Lm::fallback([
    ///     Lm::new("openai/gpt-4o-mini").layer(RetryLayer::new(1)),
    ///     Lm::new("anthropic/claude-3-5-haiku"),
    ///     Lm::new("openai/my-model").base_url("http://127.0.0.1:8000/v1"),
    /// ])
    /// // On each of the three.
    /// .limits(LmLimits::new().with_idle(Duration::from_secs(5)))
    /// .temperature(0.2);
    /// ```
    ///
    /// Each member has its own address, key, options, layers and limits. What is set on the result, as
    /// above, is set on each member, in place of what that had. DSPy makes the request anew for the
    /// member that takes over: with that LM's options, and with those that the program gave to the call.
    /// The adapter asks the first member what it can (JSON schemas, tools), and what it makes of that is
    /// in the request of the next as well, as a `response_format` with a JSON schema: another provider
    /// may refuse it as a wrong request. So choose members that can do the same, or an adapter that
    /// asks for text alone, as DSPy's `ChatAdapter` does for outputs of text.
    ///
    /// | the member before | the next takes over |
    /// |---|---|
    /// | answers 408, 409, 425, 5xx | yes, once its own retries are over |
    /// | answers 402, 429 | yes: a Retry-After that fits is waited for by its [`RetryLayer`](crate::RetryLayer), and a quota that is used up is that provider's alone |
    /// | has no connection, breaks it off, or answers what cannot be read | yes |
    /// | exceeds one of its [`LmLimits`](super::LmLimits), or its [share](Self::failover_share) of the time left | yes |
    /// | is refused as [`Overloaded`](crate::ErrorKind::Overloaded): an open circuit breaker, load shed | yes |
    /// | answers 400, 401, 403, 404, or is refused for another reason, as for its key | no |
    /// | has sent content to the reader of a [streamed](crate::DspyService::streaming) call | no: that reader has read some of it |
    /// | is refused for an exceeded [`Budget`](crate::Budget) | no: it is the call's |
    /// | is ended by the call's deadline, or cancelled | no |
    ///
    /// Where all fail, the LM error is that of the last, and its message names the failures of the
    /// others. Each member's LM calls are in the record of the call, with their provider and model.
    ///
    /// Loading fails if there is no member. A member may be made of several itself.
    pub fn fallback(members: impl IntoIterator<Item = Self>) -> Self {
        let combination = LmCombination::Fallback { share: None };
        Self::group(members.into_iter().collect(), combination)
    }

    /// The share of the time left, above 0 and below 1, that each member of a
    /// [`fallback`](Self::fallback) but the last has until the first content of its answer, its retries
    /// included. Any other LM is not changed.
    ///
    /// The default is an even share: of three members the first has a third of the time, the second
    /// half of what is left then, and the last all that remains. The time left is that until the
    /// deadline of the program's call; without one a member has its own
    /// [`LmLimits`](super::LmLimits) alone, so set `first_content` there, or `total`.
    ///
    /// When its share has passed, a member ends as if it had exceeded its
    /// [`first_content`](super::LmLimits::first_content). Its layers wait for no longer: where a
    /// Retry-After is beyond the share, or its turn in a [`TokenRateLayer`](super::TokenRateLayer), the
    /// next takes over at once. Content is what [`LmLimits`](super::LmLimits) says: an answer that has
    /// begun is not cut short by it.
    ///
    /// # Errors
    /// Loading a program fails with a share out of this range.
    #[must_use]
    pub fn failover_share(mut self, share: f64) -> Self {
        if let Some(group) = &mut self.group
            && let LmCombination::Fallback { share: set } = &mut group.combination
        {
            *set = Some(share);
        }
        self
    }

    /// An LM whose members run beside each other where the first is slow: the LM call of the second
    /// begins `after` that of the first, if that has no content by then, and the first answer wins.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_dspy::Lm;
    ///
    /// let lm = Lm::hedge(
    ///     [Lm::new("openai/gpt-4o-mini"), Lm::new("anthropic/claude-3-5-haiku")],
    ///     Duration::from_secs(2),
    /// );
    /// ```
    ///
    /// The answer that is complete first wins; of a streamed one, the first with content. The other LM
    /// call is cancelled before the winner's answer goes on, which closes its connection. It is in the
    /// record of the call as cancelled. Its tokens are mostly an estimate: most providers tell their
    /// count only at the end of an answer. In sync code the winner's answer waits until the other's
    /// thread has ended, which is cancelled at its request; before that it may renew a token.
    ///
    /// The second also begins at once where the first fails in a way that lets the next member of a
    /// [`fallback`](Self::fallback) take over. Where both fail, the LM error is that of the second,
    /// and its message names the first's. Settings on the result are set on both members.
    ///
    /// Within `dspy.streamify` the members do not run beside each other, as that shows the chunks of
    /// each LM call at once: there the hedge is a fallback with even shares.
    ///
    /// To hedge with the same LM, and at a learnt percentile, put a
    /// [`HedgeLayer`](crate::HedgeLayer) on it.
    #[must_use]
    pub fn hedge(members: [Self; 2], after: Duration) -> Self {
        Self::group(members.into(), LmCombination::Hedge { after })
    }

    fn group(members: Vec<Self>, combination: LmCombination) -> Self {
        let model = members.first().map(|first| first.model.clone());
        let mut lm = Self::new(model.unwrap_or_default());
        lm.group = Some(LmGroup {
            members,
            combination,
        });
        lm
    }

    /// The members, of an LM that is made of several.
    ///
    /// # Errors
    /// If it is made of none, or not combined as it can be.
    #[cfg_attr(
        not(feature = "_host"),
        expect(dead_code, reason = "hosts load groups")
    )]
    pub(crate) fn members(&self) -> Result<Option<&LmGroup<Self>>, LmConfigError> {
        let Some(group) = &self.group else {
            return Ok(None);
        };
        group.check()?;
        Ok(Some(group))
    }

    /// Makes a setting on this LM, or on each of its members.
    pub(super) fn set(mut self, set: impl Fn(&mut Self)) -> Self {
        self.set_each(&set);
        self
    }

    fn set_each(&mut self, set: &dyn Fn(&mut Self)) {
        match &mut self.group {
            Some(group) => group.members.iter_mut().for_each(|lm| lm.set_each(set)),
            None => set(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_made_on_each_member_and_on_members_of_members() {
        let pair = Lm::hedge([Lm::new("a/1"), Lm::new("b/2")], Duration::from_secs(1));
        let lm = Lm::fallback([pair, Lm::new("c/3").temperature(1.0)]);
        let lm = lm.temperature(0.5).trace_propagation().key_env("KEY");
        let shown = format!("{lm:?}");
        assert_eq!(shown.matches(r#""temperature": Number(0.5)"#).count(), 3);
        assert_eq!(shown.matches("trace_propagation: true").count(), 3);
        assert_eq!(shown.matches(r#""KEY""#).count(), 3);
    }

    #[test]
    fn a_group_without_members_and_a_share_that_is_none_are_errors() {
        let none = Lm::fallback([]).members().err();
        assert!(matches!(none, Some(LmConfigError::NoMembers)), "{none:?}");
        for share in [0.0, 1.0, -0.5, f64::NAN, f64::INFINITY] {
            let lm = Lm::fallback([Lm::new("a/1")]).failover_share(share);
            let error = lm.members().err();
            let is_it = matches!(error, Some(LmConfigError::FailoverShare { .. }));
            assert!(is_it, "{share}: {error:?}");
        }
        let lm = Lm::fallback([Lm::new("a/1")]).failover_share(0.9);
        let group = lm.members().expect("a group").expect("members");
        let combination = LmCombination::Fallback { share: Some(0.9) };
        assert_eq!(group.combination, combination);
        assert!(Lm::new("a/1").failover_share(7.0).members().is_ok());
    }

    #[test]
    fn a_group_has_no_handle_of_its_own() {
        let lm = Lm::fallback([Lm::new("openai/x").key("k"), Lm::new("openai/y").key("k")]);
        let error = lm.connect().err();
        assert!(matches!(error, Some(LmConfigError::Group)), "{error:?}");
    }
}
