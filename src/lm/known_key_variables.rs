//! The environment variables that hold providers' keys, which a worker starts without.
//!
//! They are those of DSPy's own client, and of the providers in the table of [`lm`](super) that it
//! reaches through litellm. What a load finds besides is taken out of the worker's environment then.

/// The variables, by provider.
pub(crate) const KEY_VARIABLES: [&str; 41] = [
    // DSPy's own client.
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "XAI_API_KEY",
    "TYPESAFE_API_KEY",
    "GROQ_API_KEY",
    "OPENROUTER_API_KEY",
    "DEEPSEEK_API_KEY",
    "ZAI_API_KEY",
    "MOONSHOTAI_API_KEY",
    "MOONSHOT_API_KEY",
    "META_API_KEY",
    "AZURE_OPENAI_API_KEY",
    "ANTHROPIC_FOUNDRY_API_KEY",
    "ANTHROPIC_AWS_API_KEY",
    "AWS_BEARER_TOKEN_BEDROCK",
    // litellm.
    "AZURE_API_KEY",
    "AZURE_AI_API_KEY",
    "MISTRAL_API_KEY",
    "TOGETHERAI_API_KEY",
    "TOGETHER_API_KEY",
    "TOGETHER_AI_API_KEY",
    "FIREWORKS_API_KEY",
    "FIREWORKS_AI_API_KEY",
    "FIREWORKSAI_API_KEY",
    "PERPLEXITYAI_API_KEY",
    "PERPLEXITY_API_KEY",
    "COHERE_API_KEY",
    "CO_API_KEY",
    "CEREBRAS_API_KEY",
    "SAMBANOVA_API_KEY",
    "NVIDIA_NIM_API_KEY",
    "DEEPINFRA_API_KEY",
    "HUGGINGFACE_API_KEY",
    "DATABRICKS_API_KEY",
    "LM_STUDIO_API_KEY",
    "LITELLM_PROXY_API_KEY",
    "HOSTED_VLLM_API_KEY",
    "OLLAMA_API_KEY",
    "NEBIUS_API_KEY",
];
