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

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_model_names_its_provider() {
        assert_eq!(split("openai/gpt-4o-mini"), ("openai", "gpt-4o-mini"));
        assert_eq!(split("openrouter/a/b"), ("openrouter", "a/b"));
        assert_eq!(split("claude-x"), ("anthropic", "claude-x"));
        assert_eq!(split("gpt-4o"), ("openai", "gpt-4o"));
        assert_eq!(split("vertex:gemini-x"), ("vertex", "gemini-x"));
        assert_eq!(split("bedrock-chat:a/b:0"), ("bedrock-chat", "a/b:0"));
        assert_eq!(split("openai/ft:x:y"), ("openai", "ft:x:y"));
        assert_eq!(split("ft:gpt:org"), ("openai", "ft:gpt:org"));
    }
}
