//! The table of providers: the name, where its requests go, and with what credential.

use tower_dspy::Lm;

/// How a request shows whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    /// `Authorization: Bearer`, with the key.
    Bearer,
    /// The key alone in this header.
    Header(&'static str),
    /// A server of one's own, which wants no key.
    Keyless,
    /// A signature of AWS, with the credentials of the environment.
    Signed,
    /// `Authorization: Bearer`, with the token that Google's token endpoint gave.
    Google,
}

/// The API of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// One of those that the scripted LM speaks.
    Scripted,
    Converse,
    Cohere,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Provider {
    /// As in the table of the docs.
    pub(super) row: &'static str,
    /// The name of its LM, with `{}` for the model.
    pub(super) model: &'static str,
    /// The variable that holds its key; `None` where it has none, or is given it.
    pub(super) variable: Option<&'static str>,
    /// The scheme and the authority of its URL, and the beginning of the path.
    pub(super) url: &'static str,
    pub(super) auth: Auth,
    pub(super) dialect: Dialect,
    /// What its users set besides.
    pub(super) set: fn(Lm) -> Lm,
}

/// The key of a provider that is given one.
pub(super) const GIVEN: &str = "key-that-is-given";

const fn keyed(
    row: &'static str,
    model: &'static str,
    variable: &'static str,
    url: &'static str,
    auth: Auth,
) -> Provider {
    Provider {
        row,
        model,
        variable: Some(variable),
        url,
        auth,
        dialect: Dialect::Scripted,
        set: |lm| lm,
    }
}

const fn given(row: &'static str, model: &'static str, url: &'static str, auth: Auth) -> Provider {
    Provider {
        variable: None,
        set: |lm| lm.key(GIVEN),
        ..keyed(row, model, "", url, auth)
    }
}

const fn keyless(
    row: &'static str,
    model: &'static str,
    url: &'static str,
    auth: Auth,
) -> Provider {
    Provider {
        variable: None,
        ..keyed(row, model, "", url, auth)
    }
}

use Auth::{Bearer, Google, Header, Keyless, Signed};

pub(super) const PROVIDERS: [Provider; 33] = [
    keyed(
        "openai",
        "openai/{}",
        "OPENAI_API_KEY",
        "https://api.openai.com/v1/",
        Bearer,
    ),
    keyed(
        "anthropic",
        "anthropic/{}",
        "ANTHROPIC_API_KEY",
        "https://api.anthropic.com/v1/",
        Header("x-api-key"),
    ),
    keyed(
        "gemini",
        "gemini/{}",
        "GEMINI_API_KEY",
        "https://generativelanguage.googleapis.com/v1beta/",
        Header("x-goog-api-key"),
    ),
    keyed(
        "groq",
        "groq/{}",
        "GROQ_API_KEY",
        "https://api.groq.com/openai/v1/",
        Bearer,
    ),
    keyed(
        "openrouter",
        "openrouter/{}",
        "OPENROUTER_API_KEY",
        "https://openrouter.ai/api/v1/",
        Bearer,
    ),
    keyed(
        "deepseek",
        "deepseek/{}",
        "DEEPSEEK_API_KEY",
        "https://api.deepseek.com/",
        Bearer,
    ),
    keyed(
        "xai",
        "xai/{}",
        "XAI_API_KEY",
        "https://api.x.ai/v1/",
        Bearer,
    ),
    keyed(
        "moonshot",
        "moonshot/{}",
        "MOONSHOT_API_KEY",
        "https://api.moonshot.ai/v1/",
        Bearer,
    ),
    keyless("ollama", "ollama/{}", "http://localhost:11434/v1/", Keyless),
    keyless(
        "ollama_chat",
        "ollama_chat/{}",
        "http://localhost:11434/v1/",
        Keyless,
    ),
    keyless(
        "hosted_vllm",
        "hosted_vllm/{}",
        "http://localhost:8000/v1/",
        Keyless,
    ),
    keyed(
        "mistral",
        "mistral/{}",
        "MISTRAL_API_KEY",
        "https://api.mistral.ai/v1/",
        Bearer,
    ),
    keyed(
        "together_ai",
        "together_ai/{}",
        "TOGETHER_API_KEY",
        "https://api.together.ai/v1/",
        Bearer,
    ),
    keyed(
        "fireworks_ai",
        "fireworks_ai/accounts/fireworks/models/{}",
        "FIREWORKS_API_KEY",
        "https://api.fireworks.ai/inference/v1/",
        Bearer,
    ),
    keyed(
        "perplexity",
        "perplexity/{}",
        "PERPLEXITY_API_KEY",
        "https://api.perplexity.ai/",
        Bearer,
    ),
    keyed(
        "cerebras",
        "cerebras/{}",
        "CEREBRAS_API_KEY",
        "https://api.cerebras.ai/v1/",
        Bearer,
    ),
    keyed(
        "sambanova",
        "sambanova/{}",
        "SAMBANOVA_API_KEY",
        "https://api.sambanova.ai/v1/",
        Bearer,
    ),
    keyed(
        "nvidia_nim",
        "nvidia_nim/{}",
        "NVIDIA_NIM_API_KEY",
        "https://integrate.api.nvidia.com/v1/",
        Bearer,
    ),
    keyed(
        "deepinfra",
        "deepinfra/{}",
        "DEEPINFRA_API_KEY",
        "https://api.deepinfra.com/v1/openai/",
        Bearer,
    ),
    Provider {
        dialect: Dialect::Cohere,
        ..keyed(
            "cohere_chat",
            "cohere_chat/{}",
            "COHERE_API_KEY",
            "https://api.cohere.com/v2/chat",
            Bearer,
        )
    },
    Provider {
        set: |lm| lm.base_url("http://lm.test/serving-endpoints"),
        ..keyed(
            "databricks",
            "databricks/{}",
            "DATABRICKS_API_KEY",
            "http://lm.test/serving-endpoints/",
            Bearer,
        )
    },
    Provider {
        set: |lm| lm.base_url("http://lm.test:1234/v1"),
        ..keyless(
            "lm_studio",
            "lm_studio/{}",
            "http://lm.test:1234/v1/",
            Keyless,
        )
    },
    Provider {
        set: |lm| lm.key(GIVEN).base_url("http://lm.test:4000"),
        ..given(
            "litellm_proxy",
            "litellm_proxy/{}",
            "http://lm.test:4000/",
            Bearer,
        )
    },
    Provider {
        set: |lm| lm.key(GIVEN).base_url("http://lm.test/v1"),
        ..given("openai", "openai/{}", "http://lm.test/v1/", Bearer)
    },
    // By lm15, at `AZURE_OPENAI_ENDPOINT`.
    keyed(
        "azure",
        "azure/{}",
        "AZURE_OPENAI_API_KEY",
        "https://mine.openai.azure.com/openai/v1/",
        Header("api-key"),
    ),
    // By litellm.
    Provider {
        set: |lm| {
            lm.base_url("https://other.openai.azure.com")
                .option("api_version", "2024-10-21")
        },
        ..keyed(
            "azure",
            "azure/{}",
            "AZURE_OPENAI_API_KEY",
            "https://other.openai.azure.com/openai/deployments/",
            Header("api-key"),
        )
    },
    // With a token of Entra.
    Provider {
        set: |lm| {
            lm.token_with(|_| Some(GIVEN.to_owned()))
                .base_url("https://other.openai.azure.com")
                .option("api_version", "2024-10-21")
        },
        ..given(
            "azure",
            "azure/{}",
            "https://other.openai.azure.com/openai/deployments/",
            Bearer,
        )
    },
    Provider {
        set: |lm| lm.base_url("https://mine.services.ai.azure.com/models"),
        ..keyed(
            "azure_ai",
            "azure_ai/{}",
            "AZURE_AI_API_KEY",
            "https://mine.services.ai.azure.com/models/",
            Header("api-key"),
        )
    },
    Provider {
        dialect: Dialect::Converse,
        ..keyless(
            "bedrock",
            "bedrock/converse/{}",
            "https://bedrock-runtime.us-east-1.amazonaws.com/model/",
            Signed,
        )
    },
    Provider {
        dialect: Dialect::Converse,
        ..given(
            "bedrock",
            "bedrock/converse/{}",
            "https://bedrock-runtime.us-east-1.amazonaws.com/model/",
            Bearer,
        )
    },
    keyless(
        "bedrock-chat",
        "bedrock-chat:{}",
        "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1/",
        Signed,
    ),
    keyless(
        "bedrock-anthropic",
        "bedrock-anthropic:{}",
        "https://bedrock-mantle.us-east-1.api.aws/anthropic/v1/",
        Signed,
    ),
    keyless(
        "vertex",
        "vertex:{}",
        "https://aiplatform.googleapis.com/v1/projects/a-project/locations/global/",
        Google,
    ),
];

impl Provider {
    /// The model that the provider is asked for.
    pub(super) fn asked(&self, model: &str) -> String {
        let named = self.model.replace("{}", model);
        let asked = named
            .split_once(['/', ':'])
            .map_or(&*named, |(_, asked)| asked);
        asked.strip_prefix("converse/").unwrap_or(asked).to_owned()
    }

    /// The key that its requests are to have.
    pub(super) fn key(&self) -> String {
        match self.variable {
            Some(variable) => key_in(variable),
            None => GIVEN.to_owned(),
        }
    }
}

/// The key in a variable of these tests' environment.
pub(super) fn key_in(variable: &str) -> String {
    format!("key-in-{variable}")
}
