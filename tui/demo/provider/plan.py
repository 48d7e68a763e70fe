"""What the model answers: decided by the seed and the request alone, so that it can be repeated."""

from __future__ import annotations

from hashlib import blake2b
from random import Random

import orjson

from . import scenes, uses
from .ask import Ask, Part, Reply, Tool, tokens_in
from .directives import Wishes, parse_directives

_SHELLS = (
    "Bash", "bash", "run_shell_command", "exec_command", "shell_command", "shell", "local_shell",
    "container.exec", "exec",
)  # fmt: skip
_PIECE = 24
"""Characters in one delta: providers send a few tokens at a time."""


def rng_for(seed: int, ask: Ask) -> Random:
    """Chance, the same for the same seed and request."""
    digest = blake2b(f"{seed}\0{ask.model}\0{ask.directives}\0".encode(), digest_size=8)
    for block in ask.blocks:
        digest.update(block.content)
    return Random(digest.digest())


def reply_to(ask: Ask, rng: Random) -> Reply:
    """Compose the reply: perhaps thinking, some text, and the tools that are still to be used.

    Without a directive a client with tools is given one harmless call (of a shell if it has one), and its
    turn ends when the result comes back.
    """
    wishes = parse_directives(ask.directives)[1]
    parts: list[Part] = []
    if ask.thinks:
        parts.append(_part("thinking", scenes.thoughts(rng, rng.randint(1, 3))))
    use = wishes.uses[ask.rounds] if ask.rounds < len(wishes.uses) else None
    tool = _next_tool(ask, wishes, use)
    if tool is not None and use is not None:
        parts.append(_part("tool", orjson.dumps(uses.input_of(use, tool, ask)).decode(), tool.name))
    elif tool is not None:
        if not ask.forced:
            parts.append(_part("text", scenes.prose(rng, 1)))
        asked = wishes.tools is not None
        calls = (_part("tool", _input(tool, rng, asked=asked), tool.name) for _ in range(wishes.calls))
        parts += calls
    elif ask.schema is not None:
        parts.append(_part("text", orjson.dumps(scenes.fill(ask.schema, rng)).decode()))
    else:
        parts.append(_part("text", scenes.prose(rng, rng.randint(2, 4))))
    if wishes.output is not None:
        parts = _sized(parts, wishes.output, rng)
    return _within(Reply(tuple(parts), "end_turn" if tool is None else "tool_use"), ask.max_output)


def _next_tool(ask: Ask, wishes: Wishes, use: uses.Use | None) -> Tool | None:
    if wishes.uses:
        return uses.tool_of(use, ask.tools) if use is not None else None
    by_name: dict[str, Tool] = {tool.name: tool for tool in ask.tools}
    wanted = ""
    if ask.forced:
        wanted = ask.forced
    elif wishes.tools is not None:
        wanted = wishes.tools[ask.rounds] if ask.rounds < len(wishes.tools) else ""
    elif ask.tools and not ask.rounds and ask.schema is None:
        wanted = next((name for name in _SHELLS if name in by_name), ask.tools[0].name)
    return by_name.get(wanted)


def _input(tool: Tool, rng: Random, *, asked: bool) -> str:
    if tool.custom:
        return scenes.custom_input(tool.name, rng)
    return orjson.dumps(scenes.tool_input(tool.name, tool.schema, rng, asked=asked)).decode()


def _part(kind: str, text: str, tool: str = "") -> Part:
    pieces = tuple(text[n : n + _PIECE] for n in range(0, len(text), _PIECE))
    counts = tuple(tokens_in(piece) for piece in pieces)
    match kind:
        case "thinking":
            return Part("thinking", pieces, counts)
        case "tool":
            return Part("tool", pieces, counts, tool)
    return Part("text", pieces, counts)


def _sized(parts: list[Part], output: int, rng: Random) -> list[Part]:
    """Bring the thinking, or else the text, to as many tokens as were wished for; the rest is kept."""
    kind = "thinking" if parts[0].kind == "thinking" else "text"
    fixed = sum(sum(part.tokens) for part in parts if part.kind != kind)
    want = max(1, output - fixed) * 4
    words = scenes.thoughts if kind == "thinking" else scenes.prose
    text = words(rng, 2 + want // 40)
    while len(text) < want:
        text += " " + words(rng, 8)
    sized = _part(kind, text[:want])
    at = next((n for n, part in enumerate(parts) if part.kind == kind), None)
    return [sized if n == at else part for n, part in enumerate(parts)] if at is not None else [sized, *parts]


def _within(reply: Reply, limit: int) -> Reply:
    """Stop at ``max_tokens`` as a provider does: in the middle of whatever it was."""
    if reply.output <= limit:
        return reply
    kept: list[Part] = []
    left = limit
    for part in reply.parts:
        pieces: list[str] = []
        for piece, count in zip(part.pieces, part.tokens, strict=True):
            if left <= 0:
                break
            pieces.append(piece if count <= left else piece[: left * 4])
            left -= min(count, left)
        kept.append(Part(part.kind, tuple(pieces), tuple(tokens_in(piece) for piece in pieces), part.tool))
        if left <= 0:
            break
    return Reply(tuple(kept), "max_tokens")
