//! The name of a model, in its two parts.

/// Models by the beginning of their name, where it names no provider.
const MODELS: [(&str, &str); 4] = [
    ("claude-", "anthropic"),
    ("gemini-", "gemini"),
    ("gemma-", "gemini"),
    ("grok-", "xai"),
];

/// The provider of a model, and the model as the provider knows it: `provider/model`, or as DSPy's
/// own client has it, `provider:model`.
pub(super) fn split(model: &str) -> (&str, &str) {
    if let Some((provider, model)) = model.split_once(['/', ':'])
        // The name of a model that was fine-tuned.
        && provider != "ft"
    {
        return (provider, model);
    }
    let known = MODELS.iter().find(|(start, _)| model.starts_with(start));
    (known.map_or("openai", |(_, provider)| provider), model)
}
