"""Providers, each with the base URL and the settings that its users give."""

import os

import dspy
from dspy.lm15 import (
    AccessPolicy,
    ModelSupport,
    OpenAIChatCompat,
    ProviderDefinition,
)

os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")

ADDRESS = "http://lm.test"


def asks(model: str, path: str = "/v1", **options):
    """A factory of a predictor with an LM of its own."""

    def program() -> dspy.Predict:
        predict = dspy.Predict("question -> answer")
        address = {"api_key": "sk-provider", "api_base": ADDRESS + path}
        own = {**address, "temperature": 0.5, "max_tokens": 64, **options}
        predict.set_lm(dspy.LM(model, **own))
        return predict

    return program


openai = asks("openai/gpt-4o-mini")
no_provider = asks("gpt-4o-mini")
anthropic = asks("anthropic/claude-sonnet-4-5")
anthropic_root = asks("anthropic/claude-sonnet-4-5", "")
gemini = asks("gemini/gemini-2.5-flash", "/v1beta")
groq = asks("groq/llama-3.1-8b-instant", "/openai/v1")
openrouter = asks("openrouter/anthropic/claude-sonnet-4", "/api/v1")
deepseek = asks("deepseek/deepseek-chat")
xai = asks("xai/grok-4")
ollama = asks("ollama/llama3.2", "", api_key="")
ollama_chat = asks("ollama_chat/llama3.2", "", api_key="")
ollama_chat_keyless = asks("ollama_chat/llama3.2", "", api_key=None)
ollama_openai = asks("openai/llama3.2", api_key="ollama")
vllm = asks("hosted_vllm/meta-llama/Llama-3.1-8B-Instruct")
vllm_keyless = asks("hosted_vllm/meta-llama/Llama-3.1-8B-Instruct", api_key=None)
sglang = asks("openai/meta-llama/Llama-3.1-8B-Instruct", api_key="local", model_type="chat")
moonshot = asks("moonshot/kimi-k2")
azure = asks("azure/my-deployment", "", api_version="2024-10-21")
azure_no_version = asks("azure/my-deployment", "")
azure_ai = asks("azure_ai/mistral-large", "/models", api_version="2024-05-01-preview")
mistral = asks("mistral/mistral-small-latest")
together_ai = asks("together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo")
fireworks_ai = asks("fireworks_ai/accounts/fireworks/models/llama-v3p1-8b-instruct")
perplexity = asks("perplexity/sonar", "")
databricks = asks("databricks/databricks-meta-llama-3-1-70b-instruct", "/serving-endpoints")
lm_studio = asks("lm_studio/qwen2.5-7b")
litellm_proxy = asks("litellm_proxy/gpt-4o-mini", "")
nvidia_nim = asks("nvidia_nim/meta/llama-3.1-8b-instruct")
cerebras = asks("cerebras/llama3.1-8b")
sambanova = asks("sambanova/Meta-Llama-3.1-8B-Instruct")
deepinfra = asks("deepinfra/meta-llama/Meta-Llama-3-8B-Instruct", "/v1/openai")
huggingface = asks("huggingface/meta-llama/Llama-3.1-8B-Instruct", "")
cohere = asks("cohere_chat/command-r", "/v2/chat")
bedrock = asks(
    "bedrock/us.amazon.nova-lite-v1:0",
    "",
    api_key=None,
    aws_access_key_id="AKIDSAME",
    aws_secret_access_key="same-secret-access-key",
    aws_region_name="us-east-1",
    aws_bedrock_runtime_endpoint=ADDRESS,
)
bedrock_token = asks(
    "bedrock/us.amazon.nova-lite-v1:0",
    "",
    api_key="bedrock-bearer",
    aws_region_name="us-east-1",
    aws_bedrock_runtime_endpoint=ADDRESS,
)

dspy.lm15.register_provider(
    ProviderDefinition.chat(
        AccessPolicy("acme", env_keys=("ACME_KEY",), base_url=ADDRESS + "/v1"),
        compat=OpenAIChatCompat(),
    ),
    supports=ModelSupport(function_calling=True, response_schema=True),
    replace=True,
)
declared = asks("acme/model-1", api_base=None)
declared_json = dspy.ChainOfThought("question -> answer: int")
declared_json.set_lm(dspy.LM("acme/model-2", api_key="sk-provider"))

os.environ["CEREBRAS_API_KEY"] = "sk-of-the-environment"
key_of_environment = asks("cerebras/llama3.1-8b", api_key=None)
