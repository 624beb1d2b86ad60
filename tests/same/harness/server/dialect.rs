//! The HTTP APIs of LM providers, told apart by their paths.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Chat,
    Completions,
    Responses,
    Embeddings,
    Anthropic,
    Gemini,
    BedrockConverse,
    OllamaChat,
    OllamaGenerate,
    OllamaEmbed,
    CohereChat,
    Unknown,
}

impl Dialect {
    /// The dialect of a path behind the row's prefix.
    pub(super) fn of(path: &str) -> Self {
        let ends = |ending: &str| path.ends_with(ending);
        match path {
            _ if ends("chat/completions") => Self::Chat,
            _ if ends("completions") => Self::Completions,
            _ if ends("responses") => Self::Responses,
            _ if ends("embeddings") => Self::Embeddings,
            _ if ends("messages") => Self::Anthropic,
            _ if ends(":generateContent") => Self::Gemini,
            _ if ends("converse") => Self::BedrockConverse,
            _ if ends("api/chat") => Self::OllamaChat,
            _ if ends("api/embed") => Self::OllamaEmbed,
            _ if ends("api/generate") => Self::OllamaGenerate,
            _ if ends("v2/chat") || ends("v1/chat") => Self::CohereChat,
            _ => Self::Unknown,
        }
    }
}
