//! The charge of an attempt at an LM call: what it reserves in the budgets of its call, and what it
//! cost in the end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::StatusCode;

use super::{LmRequest, estimate::TokenEstimate, usage::UsageCounts};
use crate::call::{
    Amount, BudgetRefusal, BudgetReservations, Budgets, LmCall, Price, PricedTokens, Usd,
};

/// The price of an LM in DSPy's table, among the extensions of its requests.
#[derive(Clone, Debug)]
pub(crate) struct ListPrice(pub(crate) Arc<Price>);

/// What an attempt is charged: nothing while no connection has taken its request, and if the answer
/// has the status of an error.
#[derive(Debug, Default)]
pub(super) struct LmCharge {
    price: Option<Arc<Price>>,
    /// The tokens of the prompt, by the length of the request.
    prompt: u64,
    is_sent: Arc<AtomicBool>,
    is_error: bool,
    /// The answer is no stream: it has all of its tokens, and their count is of all.
    pub(super) is_whole: bool,
    /// Tokens of the answer that came, by their length.
    received: u64,
    /// What these were when the provider last counted the tokens of the answer.
    counted: Option<u64>,
    reserved: BudgetReservations,
    reserved_usd: Option<Usd>,
}

/// Tokens of an attempt and what they cost: what the provider counted, and an estimate of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charged {
    tokens: u64,
    usd: Option<Usd>,
    estimated_tokens: u64,
    estimated_usd: Option<Usd>,
}

impl LmCharge {
    /// The charge of a request, by this price.
    pub(super) fn new(request: &LmRequest, price: Option<Arc<Price>>) -> Self {
        Self {
            price,
            prompt: TokenEstimate::prompt_of(request),
            ..Self::default()
        }
    }

    pub(super) const fn price(&self) -> Option<&Arc<Price>> {
        self.price.as_ref()
    }

    /// Reserves an estimate in these budgets.
    pub(super) fn reserve(
        &mut self,
        budgets: &Budgets,
        estimate: TokenEstimate,
    ) -> Result<(), Box<BudgetRefusal>> {
        let tokens = PricedTokens {
            prompt: estimate.prompt,
            completion: estimate.completion,
            ..PricedTokens::default()
        };
        self.reserved_usd = self.cost(tokens);
        self.reserved = budgets.reserve(estimate.total(), self.reserved_usd)?;
        Ok(())
    }

    /// The mark that a connection sets as it takes the request.
    pub(super) const fn sent(&self) -> &Arc<AtomicBool> {
        &self.is_sent
    }

    /// No connection came about.
    pub(super) fn not_sent(&self) {
        self.is_sent.store(false, Ordering::Relaxed);
    }

    /// The head of the answer came.
    pub(super) fn head(&mut self, status: StatusCode) {
        self.is_sent.store(true, Ordering::Relaxed);
        self.is_error = status.is_client_error() || status.is_server_error();
    }

    /// The answer is an error, as its body says.
    pub(super) const fn set_error(&mut self) {
        self.is_error = true;
    }

    /// So many tokens of the answer have come, by their length.
    pub(super) const fn received(&mut self, tokens: u64) {
        self.received = tokens;
    }

    /// The provider has counted the tokens of the answer so far.
    pub(super) const fn counted(&mut self) {
        self.counted = Some(self.received);
    }

    /// Tokens of the answer that the provider did not count. `total` is its count of all tokens.
    fn uncounted(&self, total: Option<u64>) -> u64 {
        match self.counted.or(total) {
            Some(_) if self.is_whole => 0,
            _ => self
                .received
                .saturating_sub(self.counted.unwrap_or_default()),
        }
    }

    /// What the attempt has cost so far.
    pub(super) fn charged(&self, counts: &UsageCounts) -> Charged {
        match self.is_error || !self.is_sent.load(Ordering::Relaxed) {
            true => Charged::NOTHING,
            false => self.charged_for(counts),
        }
    }

    /// What the attempt has cost once its request is sent.
    pub(super) fn of_sent(&self) -> Charged {
        self.charged_for(&UsageCounts::default())
    }

    fn charged_for(&self, counts: &UsageCounts) -> Charged {
        let total = counts.total();
        let prompt = counts.prompt();
        // The usage of embeddings has no tokens of an answer.
        let completion = counts.completion().or_else(|| prompt.and(counts.rest()));
        let counted = PricedTokens {
            prompt: prompt.unwrap_or_default(),
            cached: counts.cached().unwrap_or_default(),
            cache_write: counts.cache_write().unwrap_or_default(),
            completion: completion.unwrap_or_default(),
            reasoning: counts.reasoning().unwrap_or_default(),
            whole_prompt: None,
        };
        let uncounted = PricedTokens {
            prompt: match prompt.or(total) {
                Some(_) => 0,
                None => self.prompt,
            },
            completion: self.uncounted(total),
            whole_prompt: prompt,
            ..PricedTokens::default()
        };
        let sum = |tokens: PricedTokens| tokens.prompt.saturating_add(tokens.completion);
        let tokens = total.unwrap_or_else(|| sum(counted));
        // A total alone has no price, nor has audio.
        let is_priced = (tokens == 0 || sum(counted) > 0) && !counts.has_audio();
        Charged {
            tokens,
            usd: self.cost(counted).filter(|_| is_priced),
            estimated_tokens: sum(uncounted),
            estimated_usd: self.cost(uncounted),
        }
    }

    fn cost(&self, tokens: PricedTokens) -> Option<Usd> {
        match &self.price {
            Some(price) => price.cost(tokens),
            None => (tokens.prompt == 0 && tokens.completion == 0).then_some(Usd::ZERO),
        }
    }

    /// Settles the budgets, once. What has no known cost takes what was reserved for it.
    pub(super) fn settle(&mut self, charged: Charged) {
        let reserved = self.reserved_usd.unwrap_or_default();
        let counted = Amount {
            tokens: charged.tokens,
            usd: charged.usd.unwrap_or(reserved),
        };
        let estimated = Amount {
            tokens: charged.estimated_tokens,
            usd: charged.estimated_usd.unwrap_or_default(),
        };
        std::mem::take(&mut self.reserved).settle(counted, estimated);
    }
}

impl Default for Charged {
    fn default() -> Self {
        Self::NOTHING
    }
}

impl Charged {
    pub(super) const NOTHING: Self = Self {
        tokens: 0,
        usd: Some(Usd::ZERO),
        estimated_tokens: 0,
        estimated_usd: Some(Usd::ZERO),
    };

    /// What the counted tokens cost, and the others, in USD; `None` where that is not known.
    pub(super) fn in_usd(self) -> [Option<f64>; 2] {
        [self.usd, self.estimated_usd].map(|usd| usd.map(Usd::as_f64))
    }

    /// What it cost more than `before`, as far as that is known.
    pub(super) fn beyond(self, before: Self) -> Usd {
        let sum = |charged: Self| {
            charged.usd.unwrap_or_default() + charged.estimated_usd.unwrap_or_default()
        };
        sum(self).saturating_sub(sum(before))
    }

    /// Writes it into the record of the attempt.
    pub(super) const fn put(self, call: &mut LmCall) {
        call.cost = self.usd;
        call.estimated_tokens = self.estimated_tokens;
        call.estimated_cost = self.estimated_usd;
    }
}
