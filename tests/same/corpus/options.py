"""The options of `dspy.LM`, each on a predictor of its own."""

import dspy


def asks(model: str = "openai/gpt-4o-mini", **options):
    """A factory of a predictor with an LM of its own."""

    def program() -> dspy.Predict:
        predict = dspy.Predict("question -> answer")
        address = {"api_key": "sk-option", "api_base": "http://lm.test/v1"}
        predict.set_lm(dspy.LM(model, **{**address, **options}))
        return predict

    return program


temperature = asks(temperature=0.3)
max_tokens = asks(max_tokens=100)
max_completion_tokens = asks("openai/gpt-5-mini", max_tokens=16000, temperature=1.0)
top_p = asks(top_p=0.5)
stop = asks(stop=["\n\n", "END"])
seed = asks(seed=7)
completions = asks(n=2, temperature=1.0)
logprobs = asks(logprobs=True, top_logprobs=2)
penalties = asks(presence_penalty=0.5, frequency_penalty=-0.5)
logit_bias = asks(logit_bias={"50256": -100})
user = asks(user="ann")
response_format = asks(response_format={"type": "json_object"})
reasoning_effort = asks("openai/gpt-5-mini", reasoning_effort="low")
service_tier = asks(service_tier="flex")
store_metadata = asks(store=True, metadata={"team": "a"})
parallel_tool_calls = asks(parallel_tool_calls=False)

extra_body = asks(extra_body={"top_k": 5, "min_p": 0.1})
extra_headers = asks(extra_headers={"X-Title": "app", "HTTP-Referer": "https://lm.test"})
headers = asks(headers={"X-Team": "blue"})
organization = asks(organization="org-1")
project = asks(project="proj-1")
timeout = asks(timeout=30)
no_retries = asks(num_retries=0)
no_cache = asks(cache=False)
empty_key = asks(api_key="")
base_url = asks(api_base=None, base_url="http://lm.test/v1")
slash_base = asks(api_base="http://lm.test/v1/")
query_base = asks(api_base="http://lm.test/v1?tenant=a", num_retries=0)
user_agent = asks(extra_headers={"User-Agent": "mine/1"})

responses = asks("openai/gpt-4.1-mini", model_type="responses", temperature=0.5, max_tokens=50)
responses_effort = asks("openai/gpt-5-mini", model_type="responses", reasoning_effort="high")
responses_stored = asks("openai/gpt-4.1-mini", model_type="responses", store=False)
text_completion = asks("openai/gpt-3.5-turbo-instruct", model_type="text")
developer_role = asks("openai/gpt-5-mini", use_developer_role=True, model_type="responses")
developer_role_chat = asks("openai/gpt-5-mini", use_developer_role=True)
prompt_cache = asks("anthropic/claude-sonnet-4-5", prompt_cache=dspy.lm15.CacheConfig())
cache_points = asks(
    "anthropic/claude-sonnet-4-5",
    cache_control_injection_points=[{"location": "message", "role": "system"}],
)

vllm_template = asks("hosted_vllm/qwen3", chat_template_kwargs={"enable_thinking": False})
vllm_template_in_body = asks(
    "openai/qwen3", extra_body={"chat_template_kwargs": {"enable_thinking": False}}
)
vllm_guided = asks("hosted_vllm/qwen3", extra_body={"guided_choice": ["a", "b"]})
openrouter_reasoning = asks("openrouter/deepseek/deepseek-r1", reasoning={"effort": "low"})
openrouter_routing = asks(
    "openrouter/meta/llama", extra_body={"provider": {"order": ["a"], "allow_fallbacks": False}}
)
deepseek_thinking = asks("deepseek/deepseek-chat", thinking={"type": "disabled"})
anthropic_thinking = asks(
    "anthropic/claude-sonnet-4-5",
    thinking={"type": "enabled", "budget_tokens": 2000},
    max_tokens=4000,
    temperature=1.0,
)
anthropic_beta = asks(
    "anthropic/claude-sonnet-4-5", extra_headers={"anthropic-beta": "context-1m-2025-08-07"}
)
gemini_thinking = asks("gemini/gemini-2.5-flash", reasoning_effort="low")
gemini_safety = asks(
    "gemini/gemini-2.5-flash",
    safety_settings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
)

by_litellm = asks(engine="litellm", temperature=0.2)
by_lm15 = asks(engine="lm15", temperature=0.2)
unknown_option = asks(not_an_option=1)
drop_params = asks("openai/gpt-4o-mini", drop_params=True, top_k=5)


class PerCall(dspy.Module):
    """Options that are given with a call."""

    def __init__(self):
        super().__init__()
        self.predict = asks(temperature=0.1)()

    async def aforward(self, question: str):
        return await self.predict.acall(
            question=question, config={"temperature": 0.9, "max_tokens": 12, "stop": ["X"]}
        )


def per_predictor() -> dspy.Predict:
    predict = asks()()
    predict.update_config(temperature=0.4, max_tokens=33)
    return predict
