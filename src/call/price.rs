//! The price of an LM's tokens.

use crate::call::{LmCall, Usd};

/// What an LM's tokens cost.
///
/// Tokens that have no rate of their own are paid as those that they are part of: cached ones and
/// ones written to a cache as tokens of the prompt, reasoning as tokens of the answer.
///
/// ```
/// use tower_dspy::Price;
///
/// // In USD for a million tokens: of prompts, of answers, and of prompts read from a cache.
/// let price = Price::per_million(0.15, 0.60).with_cached(0.075);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    rates: Rates,
    /// Other rates for calls with more tokens of the prompt than this, in ascending order.
    above: Vec<(u64, Rates)>,
}

/// In USD for one token; `None` where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rates {
    input: Option<Usd>,
    output: Option<Usd>,
    cached: Option<Usd>,
    cache_write: Option<Usd>,
    reasoning: Option<Usd>,
}

fn of_million(dollars: f64) -> Option<Usd> {
    Some(Usd::new(dollars / 1e6))
}

impl Price {
    /// So many USD for a million tokens of prompts, and of answers.
    #[must_use]
    pub fn per_million(input: f64, output: f64) -> Self {
        let rates = Rates {
            input: of_million(input),
            output: of_million(output),
            ..Rates::default()
        };
        Self {
            rates,
            above: Vec::new(),
        }
    }

    /// So many USD for a million tokens of prompts that are read from a cache.
    #[must_use]
    pub fn with_cached(mut self, usd: f64) -> Self {
        self.rates.cached = of_million(usd);
        self
    }

    /// So many USD for a million tokens of prompts that are written to a cache.
    #[must_use]
    pub fn with_cache_write(mut self, usd: f64) -> Self {
        self.rates.cache_write = of_million(usd);
        self
    }

    /// So many USD for a million tokens of reasoning.
    #[must_use]
    pub fn with_reasoning(mut self, usd: f64) -> Self {
        self.rates.reasoning = of_million(usd);
        self
    }

    /// Another price for calls with more than so many tokens of the prompt.
    #[must_use]
    pub fn with_above(mut self, prompt_tokens: u64, price: Self) -> Self {
        self.above.push((prompt_tokens, price.rates));
        self.above.sort_by_key(|(above, _)| *above);
        self
    }

    /// What the tokens of `call` cost; `None` if they, or the rate of some of them, are not known.
    pub(crate) fn cost(&self, call: &LmCall) -> Option<Usd> {
        let prompt = call.prompt_tokens?;
        let total = call.total_tokens;
        // The usage of embeddings has no tokens of an answer.
        let completion = call.completion_tokens;
        let completion = completion.or_else(|| total?.checked_sub(prompt))?;
        let rates = self.rates_for(prompt);
        let cached = call.cached_tokens.unwrap_or_default().min(prompt);
        let written = call.cache_write_tokens.unwrap_or_default();
        let written = written.min(prompt - cached);
        let reasoning = call.reasoning_tokens.unwrap_or_default().min(completion);
        let parts = [
            (prompt - cached - written, rates.input),
            (cached, rates.cached.or(rates.input)),
            (written, rates.cache_write.or(rates.input)),
            (completion - reasoning, rates.output),
            (reasoning, rates.reasoning.or(rates.output)),
        ];
        let costs = parts.into_iter().filter(|(count, _)| *count > 0);
        costs
            .map(|(count, rate)| Some(rate?.times(count)))
            .sum::<Option<Usd>>()
    }

    /// What so many tokens would cost, none of them cached.
    pub(crate) fn estimate(&self, prompt: u64, completion: u64) -> Option<Usd> {
        let rates = self.rates_for(prompt);
        let input = rates.input?.times(prompt);
        match completion {
            0 => Some(input),
            _ => Some(input + rates.output?.times(completion)),
        }
    }

    fn rates_for(&self, prompt: u64) -> &Rates {
        let above = self.above.iter().rev();
        let tier = above.into_iter().find(|(above, _)| prompt > *above);
        tier.map_or(&self.rates, |(_, rates)| rates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::LmOutcome;

    fn call(prompt: u64, completion: u64) -> LmCall {
        LmCall {
            prompt_tokens: Some(prompt),
            completion_tokens: Some(completion),
            ..LmCall::new("openai", "m", LmOutcome::Answered)
        }
    }

    #[test]
    fn each_sort_of_token_has_its_rate() {
        let price = Price::per_million(1.0, 4.0);
        let counted = LmCall {
            cached_tokens: Some(100),
            cache_write_tokens: Some(50),
            reasoning_tokens: Some(10),
            ..call(200, 20)
        };
        assert_eq!(price.cost(&counted), Some(Usd::new(280e-6)));
        let price = price.with_cached(0.1).with_cache_write(2.0);
        let price = price.with_reasoning(8.0);
        let expected = Usd::new(1e-6 * (50.0 + 10.0 + 100.0 + 40.0 + 80.0));
        assert_eq!(price.cost(&counted), Some(expected));
    }

    #[test]
    fn a_long_prompt_has_rates_of_its_own() {
        let long = Price::per_million(2.0, 6.0);
        let price = Price::per_million(1.0, 4.0).with_above(1000, long);
        assert_eq!(price.cost(&call(1000, 10)), Some(Usd::new(1040e-6)));
        assert_eq!(price.cost(&call(1001, 10)), Some(Usd::new(2062e-6)));
    }

    #[test]
    fn tokens_that_nobody_counted_have_no_cost() {
        let price = Price::per_million(1.0, 4.0);
        let uncounted = LmCall::new("openai", "m", LmOutcome::Cancelled);
        assert_eq!(price.cost(&uncounted), None);
        let embedding = LmCall {
            prompt_tokens: Some(10),
            total_tokens: Some(10),
            ..uncounted
        };
        assert_eq!(price.cost(&embedding), Some(Usd::new(10e-6)));
    }
}
