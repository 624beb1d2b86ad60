import contextlib

import dspy
import pytest
from dspy._vendor.lm15.registry import lookup
from dspy.utils.callback import BaseCallback
from fakes import FakeLmHost

from tower_dspy import host_lms, lm_address, prices
from tower_dspy.faults import HostError

pytestmark = pytest.mark.usefixtures("no_keys")


def config(model: str, **options: object) -> dict[str, object]:
    return {"id": 7, "model": model, "base_url": None, "has_key": False, "options": options}


def resolved(model: str, keyed: bool = True, **options: object) -> tuple[FakeLmHost, dspy.LM]:
    host = FakeLmHost(keyed=keyed)
    return host, host_lms.build_lm(host, config(model, **options))


@pytest.mark.parametrize(
    ("model", "url", "variables"),
    [
        ("openai/x", "https://api.openai.com/v1/chat/completions", ["OPENAI_API_KEY"]),
        ("gpt-x", "https://api.openai.com/v1/chat/completions", ["OPENAI_API_KEY"]),
        ("anthropic/x", "https://api.anthropic.com/v1/messages", ["ANTHROPIC_API_KEY"]),
        (
            "moonshot/x",
            "https://api.moonshot.ai/v1/chat/completions",
            ["MOONSHOTAI_API_KEY", "MOONSHOT_API_KEY"],
        ),
        ("ollama_chat/x", "http://localhost:11434/v1/chat/completions", []),
        ("hosted_vllm/x", "http://localhost:8000/v1/chat/completions", []),
    ],
)
def test_the_provider_of_dspys_own_client_is_as_its_registry_has_it(model, url, variables):
    host, lm = resolved(model)
    assert host.resolved == [(7, url, variables, False)]
    assert lm.kwargs["api_key"] == "TOWER-DSPY-KEY-7"


@pytest.mark.parametrize(
    ("model", "url", "variables"),
    [
        (
            "mistral/x",
            "https://api.mistral.ai/v1/chat/completions",
            ["MISTRAL_API_KEY", "MISTRAL_AZURE_API_KEY"],
        ),
        (
            "together_ai/a/b",
            "https://api.together.ai/v1/chat/completions",
            [
                "TOGETHERAI_API_KEY",
                "TOGETHER_API_KEY",
                "TOGETHER_AI_API_KEY",
                "TOGETHER_AI_TOKEN",
            ],
        ),
        (
            "fireworks_ai/x",
            "https://api.fireworks.ai/inference/v1/chat/completions",
            [
                "FIREWORKS_AI_API_KEY",
                "FIREWORKS_API_KEY",
                "FIREWORKSAI_API_KEY",
                "FIREWORKS_AI_TOKEN",
            ],
        ),
        (
            "perplexity/x",
            "https://api.perplexity.ai/chat/completions",
            ["PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"],
        ),
        ("cohere_chat/x", "https://api.cohere.com/v2/chat", ["COHERE_API_KEY", "CO_API_KEY"]),
        ("cerebras/x", "https://api.cerebras.ai/v1/chat/completions", ["CEREBRAS_API_KEY"]),
        (
            "deepinfra/x",
            "https://api.deepinfra.com/v1/openai/chat/completions",
            ["DEEPINFRA_API_KEY"],
        ),
        (
            "dashscope/x",
            "https://dashscope.aliyuncs.com/compatible-mode/v1/chat/completions",
            ["DASHSCOPE_API_KEY"],
        ),
        ("sambanova/x", "https://api.sambanova.ai/v1/chat/completions", ["SAMBANOVA_API_KEY"]),
        (
            "nvidia_nim/x",
            "https://integrate.api.nvidia.com/v1/chat/completions",
            ["NVIDIA_NIM_API_KEY"],
        ),
        ("zai/x", "https://api.z.ai/api/paas/v4/chat/completions", ["ZAI_API_KEY"]),
    ],
)
def test_the_provider_of_litellm_is_as_litellm_looks_it_up(model, url, variables):
    host, _ = resolved(model)
    [(lm_id, to, named, has_credentials)] = host.resolved
    assert (lm_id, to, has_credentials) == (7, url, False)
    assert named == variables


@pytest.mark.parametrize(
    ("model", "options", "variables"),
    [
        ("openai/x", {"engine": "litellm"}, ["OPENAI_API_KEY"]),
        ("gpt-4o", {"engine": "litellm"}, ["OPENAI_API_KEY"]),
        ("gemini/x", {"engine": "litellm"}, ["GEMINI_API_KEY", "GOOGLE_API_KEY", "PALM_API_KEY"]),
        ("moonshot/x", {"engine": "litellm"}, ["MOONSHOTAI_API_KEY", "MOONSHOT_API_KEY"]),
    ],
)
def test_a_provider_that_both_clients_know_keeps_the_variables_of_both(model, options, variables):
    host, _ = resolved(model, **options)
    assert sorted(host.resolved[0][2]) == sorted(variables)


def test_a_server_of_ones_own_is_not_sent_the_key_of_openai():
    host = FakeLmHost()
    for model in ("litellm_proxy/x", "xinference/x", "custom_openai/x"):
        host_lms.build_lm(host, {**config(model), "base_url": "http://mine/v1"})
    assert [variables for _, _, variables, _ in host.resolved] == [
        ["LITELLM_PROXY_API_KEY"],
        ["XINFERENCE_API_KEY"],
        ["CUSTOM_OPENAI_API_KEY"],
    ]


def test_a_key_that_the_host_was_given_is_looked_for_nowhere():
    host = FakeLmHost()
    host_lms.build_lm(host, {**config("openai/x"), "has_key": True})
    assert host.resolved == [(7, "https://api.openai.com/v1/chat/completions", [], False)]


def test_a_client_of_litellm_does_not_go_to_openai_for_want_of_an_address():
    with pytest.raises(HostError, match=r"`lm_studio/x` is not usable: it has no address"):
        resolved("lm_studio/x")


@pytest.mark.parametrize("model", ["bedrock/us.amazon.nova-lite-v1:0", "bedrock-chat:some.model"])
@pytest.mark.usefixtures("aws")
def test_a_cloud_without_a_key_signs_with_its_own_credentials(model):
    host, lm = resolved(model, keyed=False)
    [asked, found] = host.resolved
    assert asked[1] is None and asked[3]
    assert found[1].startswith("https://bedrock-runtime.us-east-1.amazonaws.com/")
    assert not any(name.startswith("AWS_SECRET") for name in found[2])
    assert "api_key" not in lm.kwargs


@pytest.mark.usefixtures("aws")
def test_a_cloud_with_a_key_sends_the_placeholder():
    host, lm = resolved("bedrock-chat:some.model")
    assert "AWS_BEARER_TOKEN_BEDROCK" in host.resolved[0][2]
    assert lm.kwargs["api_key"] == "TOWER-DSPY-KEY-7"


@pytest.mark.usefixtures("aws")
def test_what_finds_a_clouds_credentials_is_shared_by_the_engines():
    # It imports them, as no other LM does.
    resolved("bedrock-chat:some.model", keyed=False)
    from dspy._vendor.lm15.cloud import chains

    policy = lookup("bedrock-chat").access
    made = [
        chains.credential_provider(policy, chains.ChainContext.online(settings=settings))
        for settings in ({"region": "a"}, {"region": "a"}, {"region": "b"})
    ]
    assert made[0] is made[1] is not made[2]


def test_a_cloud_without_credentials_is_refused_with_what_it_lacks():
    with pytest.raises(HostError, match="set GOOGLE_CLOUD_PROJECT") as caught:
        resolved("vertex:gemini-x", keyed=False)
    assert caught.value.kind == "lm"


def test_azure_without_an_address_is_refused_with_what_it_lacks():
    with pytest.raises(HostError, match="AZURE_OPENAI_ENDPOINT"):
        resolved("azure/mine")


def test_a_dry_run_sends_nothing(http):
    assert lm_address.requested(dspy.LM("openai/x", api_key="k", cache=False)) is not None
    assert lm_address.requested(dspy.LM("mistral/x", api_key="k", cache=False)) is not None
    assert http.sent == []


@pytest.mark.parametrize(
    "model",
    [
        "huggingface/meta-llama/Llama",
        "github_copilot/gpt-4o",
        "chatgpt/gpt-5",
        "watsonx/ibm/granite",
        "gigachat/GigaChat",
        "ollama/x",
        "mistral/x",
    ],
)
def test_a_load_asks_the_network_for_nothing(model, monkeypatch):
    asked = []

    def ask(*address: object, **_: object) -> None:
        asked.append(address)
        raise OSError("there is no network")

    monkeypatch.setattr("socket.getaddrinfo", ask)
    monkeypatch.setattr("socket.socket.connect", ask)
    monkeypatch.setattr(prices, "_entries", {})
    with contextlib.suppress(HostError):
        resolved(model, engine="litellm", project_id="p")
    assert asked == []


@pytest.mark.parametrize("base_url", [None, "https://us-south.ml.cloud.ibm.com"])
@pytest.mark.parametrize(
    ("model", "host"),
    [
        ("watsonx/ibm/granite", "iam.cloud.ibm.com"),
        ("gigachat/GigaChat", "ngw.devices.sberbank.ru"),
        ("github_copilot/gpt-4o", "github.com"),
        ("chatgpt/gpt-5", "auth.openai.com"),
    ],
)
def test_a_provider_that_wants_a_token_of_another_server_first_is_refused(model, host, base_url):
    fake = FakeLmHost()
    own = {**config(model, project_id="p"), "base_url": base_url}
    with pytest.raises(HostError, match=f"`{model}` is not usable: its client asks `{host}`"):
        host_lms.build_lm(fake, own)
    assert fake.resolved == []


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("replicate/meta/llama", "https://api.replicate.com/v1/models/meta/llama/predictions"),
        ("ollama/x", "http://localhost:11434/api/"),
    ],
)
def test_a_request_that_names_the_model_is_one_to_the_lm(model, url):
    host, _ = resolved(model, engine="litellm")
    assert host.resolved[0][1].startswith(url)


@pytest.mark.parametrize(
    ("model", "options", "variable"),
    [
        ("azure/x", {"api_version": "2024-10-21"}, "AZURE_OPENAI_API_KEY"),
        ("azure_ai/x", {}, "AZURE_AI_API_KEY"),
        ("databricks/x", {}, "DATABRICKS_API_KEY"),
    ],
)
def test_an_lm_with_an_address_and_without_the_key_that_it_needs_is_refused(
    model, options, variable
):
    own = {**config(model, **options), "base_url": "https://mine.test"}
    with pytest.raises(HostError, match=rf"there is no key: set \${variable}"):
        host_lms.build_lm(FakeLmHost(keyed=False), own)
    host_lms.build_lm(FakeLmHost(keyed=True), dict(own))
    # As with an empty one.
    if not model.startswith("azure"):
        host_lms.build_lm(FakeLmHost(keyed=False), {**own, "has_key": True})


@pytest.mark.parametrize("ambient", [None, "sk-of-another"])
@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("lm_studio/x", {}),
        ("hosted_vllm/x", {}),
        ("openai/x", {}),
        ("ollama_chat/x", {}),
        ("litellm_proxy/x", {}),
        ("xinference/x", {}),
        ("custom_openai/x", {}),
        ("text-completion-openai/x", {}),
        # These are for litellm, whose client wants some key.
        ("openai/x", {"extra_headers": {"x-team": "a"}}),
        ("openai/x", {"engine": "litellm"}),
        ("openai/x", {"model_type": "text"}),
        ("x", {"custom_llm_provider": "openai"}),
    ],
)
def test_a_server_that_needs_no_key_is_loaded_without_one(model, options, ambient, monkeypatch):
    if ambient is not None:
        monkeypatch.setenv("OPENAI_API_KEY", ambient)
    own = {**config(model, **options), "base_url": "http://127.0.0.1:8000/v1"}
    host_lms.build_lm(FakeLmHost(keyed=False), own)


def test_a_load_reads_no_key(monkeypatch):
    monkeypatch.setenv("CLARIFAI_API_KEY", "a-real-key")
    requests = []

    def requested(call):
        with contextlib.suppress(Exception):
            return requests.append(made(call)) or requests[-1]

    made = lm_address.dry_run.requested
    monkeypatch.setattr(lm_address.dry_run, "requested", requested)
    host, _ = resolved("clarifai/a.b.c")
    assert host.resolved[0][2] == ["CLARIFAI_API_KEY"]
    assert requests
    assert "a-real-key" not in str([vars(request) for request in requests])


def test_a_dry_run_calls_no_callback_of_a_programs_own_lm():
    called = []

    class Records(BaseCallback):
        def on_lm_start(self, *_: object, **__: object) -> None:
            called.append("start")

        def on_lm_end(self, *_: object, **__: object) -> None:
            called.append("end")

    for model in ("openai/x", "mistral/x"):
        own = dspy.LM(model, api_key="k", callbacks=[Records()])
        taken = host_lms.take_over(FakeLmHost(), own, [], "it")
        assert (called, len(taken.callbacks)) == ([], 1)


def test_a_failure_of_the_dry_run_is_no_failure_of_the_load_where_the_address_is_known():
    own = {**config("mistral/x", response_format=object), "base_url": "http://host/v1"}
    host_lms.build_lm(FakeLmHost(), own)
