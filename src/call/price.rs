//! The price of an LM's tokens.

use crate::call::Usd;

/// What an LM's tokens cost.
///
/// Tokens that have no rate of their own are paid as those that they are part of: cached ones and
/// ones written to a cache as tokens of the prompt, reasoning as tokens of the answer. A rate that is
/// negative or no finite number is not known, and so is the cost of what has no other.
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

/// Tokens of one LM call, by what they cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PricedTokens {
    pub(crate) prompt: u64,
    /// Of the prompt, read from a cache.
    pub(crate) cached: u64,
    /// Of the prompt, written to a cache.
    pub(crate) cache_write: u64,
    pub(crate) completion: u64,
    /// Of the answer, reasoning.
    pub(crate) reasoning: u64,
    /// The length of the whole prompt, where `prompt` is not all of it: rates may depend on it.
    pub(crate) whole_prompt: Option<u64>,
}

/// For prompts with more tokens than this: rates in USD for one token, where they are known.
#[cfg(feature = "_host")]
pub(crate) type PriceTier = (u64, [Option<f64>; 5]);

fn of_million(dollars: f64) -> Option<Usd> {
    rate(dollars / 1e6)
}

/// A rate in USD for one token; `None` if that is negative or no finite number.
fn rate(dollars: f64) -> Option<Usd> {
    (dollars.is_finite() && dollars >= 0.0).then(|| Usd::new(dollars))
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

    /// Another price for calls with more than so many tokens of the prompt. Where it has others for
    /// longer prompts, these hold too.
    #[must_use]
    pub fn with_above(mut self, prompt_tokens: u64, price: Self) -> Self {
        let rates = *price.rates_for(prompt_tokens.saturating_add(1));
        let longer = price.above.into_iter();
        let longer = longer.filter(|(above, _)| *above > prompt_tokens);
        self.above.push((prompt_tokens, rates));
        self.above.extend(longer);
        self.above.sort_by_key(|(above, _)| *above);
        self
    }

    /// The price with these tiers: rates in USD for one token, of input, output, cached, cache write
    /// and reasoning, each for prompts with more tokens than its number. `None` without a tier.
    #[cfg(feature = "_host")]
    pub(crate) fn of_tiers(tiers: &[PriceTier]) -> Option<Self> {
        let mut tiers: Vec<_> = tiers
            .iter()
            .map(|(above, rates)| {
                let [input, output, cached, cache_write, reasoning] =
                    rates.map(|dollars| dollars.and_then(rate));
                let rates = Rates {
                    input,
                    output,
                    cached,
                    cache_write,
                    reasoning,
                };
                (*above, rates)
            })
            .collect();
        tiers.sort_by_key(|(above, _)| *above);
        let (_, rates) = tiers.first().copied()?;
        tiers.remove(0);
        Some(Self {
            rates,
            above: tiers,
        })
    }

    /// What these tokens cost; `None` if the rate of some of them is not known.
    pub(crate) fn cost(&self, tokens: PricedTokens) -> Option<Usd> {
        let PricedTokens {
            prompt, completion, ..
        } = tokens;
        let rates = self.rates_for(tokens.whole_prompt.unwrap_or(prompt));
        let cached = tokens.cached.min(prompt);
        let written = tokens.cache_write.min(prompt - cached);
        let reasoning = tokens.reasoning.min(completion);
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

    fn rates_for(&self, prompt: u64) -> &Rates {
        let above = self.above.iter().rev();
        let tier = above.into_iter().find(|(above, _)| prompt > *above);
        tier.map_or(&self.rates, |(_, rates)| rates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(prompt: u64, completion: u64) -> PricedTokens {
        PricedTokens {
            prompt,
            completion,
            ..PricedTokens::default()
        }
    }

    #[test]
    fn each_sort_of_token_has_its_rate() {
        let price = Price::per_million(1.0, 4.0);
        let counted = PricedTokens {
            cached: 100,
            cache_write: 50,
            reasoning: 10,
            ..tokens(200, 20)
        };
        assert_eq!(price.cost(counted), Some(Usd::new(280e-6)));
        let price = price.with_cached(0.1).with_cache_write(2.0);
        let price = price.with_reasoning(8.0);
        let expected = Usd::new(1e-6 * (50.0 + 10.0 + 100.0 + 40.0 + 80.0));
        assert_eq!(price.cost(counted), Some(expected));
    }

    #[test]
    fn a_long_prompt_has_rates_of_its_own() {
        let long = Price::per_million(2.0, 6.0);
        let price = Price::per_million(1.0, 4.0).with_above(1000, long);
        assert_eq!(price.cost(tokens(1000, 10)), Some(Usd::new(1040e-6)));
        assert_eq!(price.cost(tokens(1001, 10)), Some(Usd::new(2062e-6)));
        let rest = PricedTokens {
            whole_prompt: Some(1001),
            ..tokens(0, 10)
        };
        assert_eq!(price.cost(rest), Some(Usd::new(60e-6)));
    }

    #[test]
    fn the_tiers_of_a_price_for_long_prompts_hold_too() {
        let longest = Price::per_million(3.0, 9.0);
        let long = Price::per_million(2.0, 6.0).with_above(2000, longest);
        let price = Price::per_million(1.0, 4.0).with_above(1000, long.clone());
        assert_eq!(price.cost(tokens(1500, 0)), Some(Usd::new(3000e-6)));
        assert_eq!(price.cost(tokens(2001, 0)), Some(Usd::new(6003e-6)));
        let price = Price::per_million(1.0, 4.0).with_above(3000, long);
        assert_eq!(price.cost(tokens(2001, 0)), Some(Usd::new(2001e-6)));
        assert_eq!(price.cost(tokens(3001, 0)), Some(Usd::new(9003e-6)));
    }

    #[test]
    fn a_rate_that_is_no_amount_is_not_known() {
        for odd in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(
                Price::per_million(odd, 1.0).cost(tokens(1, 1)),
                None,
                "{odd}"
            );
            let price = Price::per_million(1.0, 1.0).with_cached(odd);
            let cached = PricedTokens {
                cached: 10,
                ..tokens(10, 0)
            };
            assert_eq!(price.cost(cached), Some(Usd::new(10e-6)), "{odd}");
        }
        let free = Price::per_million(0.0, 0.0);
        assert_eq!(free.cost(tokens(9, 9)), Some(Usd::ZERO));
    }
}
