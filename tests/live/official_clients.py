"""An agent that asks with the official Python clients, streaming and not, and prints what they told it.

One JSON line a call: a name, and the tokens as the client saw them in the kernel's buckets; ``null`` for
a client that did not ask for usage and is not to see any.
"""

from __future__ import annotations

import json
import os
from typing import Any

import anthropic
import openai

LONG = "This is the project's guide for agents. " * 200
"""Long enough for a cache."""


def tell(name: str, tokens: dict[str, int] | None) -> None:
    print(json.dumps({"call": name, "tokens": tokens}), flush=True)


def anthropic_tokens(usage: Any) -> dict[str, int]:
    return {
        "input": usage.input_tokens,
        "cache_read": usage.cache_read_input_tokens or 0,
        "cache_write": usage.cache_creation_input_tokens or 0,
        "output": usage.output_tokens,
    }


def openai_tokens(total: int, details: Any, output: int) -> dict[str, int]:
    """OpenAI counts cached tokens into the input."""
    read = details.cached_tokens or 0
    write = getattr(details, "cache_write_tokens", None) or 0
    return {"input": total - read - write, "cache_read": read, "cache_write": write, "output": output}


def responses_tokens(usage: Any) -> dict[str, int]:
    return openai_tokens(usage.input_tokens, usage.input_tokens_details, usage.output_tokens)


def chat_tokens(usage: Any) -> dict[str, int]:
    return openai_tokens(usage.prompt_tokens, usage.prompt_tokens_details, usage.completion_tokens)


def ask_anthropic(client: anthropic.Anthropic) -> None:
    ask: dict[str, Any] = {
        "model": "claude-opus-5-5",
        "max_tokens": 300,
        "system": [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": "hi"}],
    }
    tell("messages", anthropic_tokens(client.messages.create(**ask).usage))
    with client.messages.stream(**ask) as stream:
        tell("messages, streamed", anthropic_tokens(stream.get_final_message().usage))
    counted = client.messages.count_tokens(model=ask["model"], messages=ask["messages"])
    assert counted.input_tokens > 0


def ask_openai(client: openai.OpenAI) -> None:
    ask: dict[str, Any] = {"model": "gpt-6.1-sol", "input": LONG}
    tell("responses", responses_tokens(client.responses.create(**ask).usage))
    with client.responses.stream(**ask) as stream:
        tell("responses, streamed", responses_tokens(stream.get_final_response().usage))

    chat: dict[str, Any] = {"model": "gpt-5.1", "messages": [{"role": "user", "content": LONG}]}
    tell("chat", chat_tokens(client.chat.completions.create(**chat).usage))
    asked = list(client.chat.completions.create(**chat, stream=True, stream_options={"include_usage": True}))
    assert not asked[-1].choices
    tell("chat, streamed, usage asked for", chat_tokens(asked[-1].usage))
    unasked = list(client.chat.completions.create(**chat, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in unasked), unasked[-1]
    tell("chat, streamed", None)
    assert [model.id for model in client.models.list()]


def main() -> None:
    url = os.environ["AGENTTOP_URL"]
    with anthropic.Anthropic(base_url=f"{url}/anthropic", api_key="x", max_retries=0) as client:
        ask_anthropic(client)
    with openai.OpenAI(base_url=f"{url}/openai/v1", api_key="x", max_retries=0) as client:
        ask_openai(client)


if __name__ == "__main__":
    main()
