"""OpenAI's SDK against a server of chat completions.

Run: python openai_client.py URL MODEL QUESTION [--scripted]
"""

from __future__ import annotations

import asyncio
import sys

import openai

url, model, question, *rest = sys.argv[1:]
scripted = "--scripted" in rest
CLIENT = {"base_url": f"{url}/v1", "api_key": "none", "max_retries": 0, "timeout": 60}


def ask(text: str) -> dict:
    return {"model": model, "messages": [{"role": "user", "content": text}]}


def models(client: openai.OpenAI) -> None:
    assert model in [each.id for each in client.models.list()]
    assert client.models.retrieve(model).object == "model"


def whole(client: openai.OpenAI) -> str:
    completion = client.chat.completions.create(**ask(question), temperature=0.2)
    choice = completion.choices[0]
    assert choice.finish_reason == "stop", completion
    assert choice.message.role == "assistant", completion
    assert completion.usage.total_tokens > 0, completion
    assert choice.message.content, completion
    return choice.message.content


def streamed(client: openai.OpenAI) -> str:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    with client.chat.completions.create(**ask(question), **options) as stream:
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens > 0, chunks[-1]
    assert chunks[-2].choices[0].finish_reason == "stop", chunks[-2]
    assert len({chunk.id for chunk in chunks}) == 1
    deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
    if scripted:
        reasoning = [delta.model_extra.get("reasoning_content") or "" for delta in deltas]
        expected = "The user wants to know.\n\nShort waves are scattered more."
        assert "".join(reasoning) == expected, reasoning
    return "".join(delta.content or "" for delta in deltas)


def accumulated(client: openai.OpenAI) -> str:
    """The helper that puts a completion together, and validates each chunk on its way."""
    with client.chat.completions.stream(**ask(question)) as stream:
        for _ in stream:
            pass
        return stream.get_final_completion().choices[0].message.content


async def left_early() -> None:
    """A client that has read enough closes the stream, and the next one is served."""
    stalls = ask("stall" if scripted else question)
    async with openai.AsyncOpenAI(**CLIENT) as client:
        async with await client.chat.completions.create(**stalls, stream=True) as stream:
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
        assert (await client.chat.completions.create(**ask(question))).choices


def refused(client: openai.OpenAI) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    try:
        client.chat.completions.create(**ask(question), tools=tools)
        raise AssertionError("tools were taken")
    except openai.BadRequestError as error:
        assert error.param == "tools" and error.type == "invalid_request_error", error
    try:
        client.chat.completions.create(**{**ask(question), "model": "gpt"}, stream=True)
        raise AssertionError("the model is not there")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error


def fails(client: openai.OpenAI) -> None:
    for stream in (True, False):
        try:
            client.chat.completions.create(**ask("busy"), stream=stream)
            raise AssertionError("the LM is busy")
        except openai.InternalServerError as error:
            assert error.status_code == 503 and error.code == "lm_unavailable", error
            assert error.response.headers["retry-after"] == "7", error
    ends = {"deadline": "server_error", "lost": "server_error", "restart": "stream_restarted"}
    for text, kind in ends.items():
        seen = ""
        try:
            for chunk in client.chat.completions.create(**ask(text), stream=True):
                seen += chunk.choices[0].delta.content or ""
                assert chunk.choices[0].finish_reason is None, chunk
            raise AssertionError(f"{text}: the stream looks whole")
        except openai.APIError as error:
            assert error.type == kind, error
        assert seen, "text came before"
    # A whole answer does not mind a restart.
    assert client.chat.completions.create(**ask("restart")).choices[0].message.content


def main() -> None:
    with openai.OpenAI(**CLIENT) as client:
        models(client)
        answer = whole(client)
        assert streamed(client) and accumulated(client)
        if scripted:
            assert answer == streamed(client) == accumulated(client)
            fails(client)
        refused(client)
    asyncio.run(left_early())
    print(f"openai {openai.__version__}: ok")


if __name__ == "__main__":
    main()
