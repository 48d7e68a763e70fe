"""OpenAI's ``usage`` objects, of all its endpoints and of those who imitate them.

Chat names (``prompt_tokens``, ``completion_tokens``) and Responses names (``input_tokens``,
``output_tokens``) mean the same (platform.openai.com, "API reference"): the input includes what was read
from and written to the cache, the output includes reasoning. Some put the reasoning outside (xAI): then
their total says so.
"""

from __future__ import annotations

from ...journal.events import Usage
from .untrusted import Figures

_FIGURES = (
    ("input", ("prompt_tokens", "input_tokens")),
    ("output", ("completion_tokens", "output_tokens")),
    ("total", ("total_tokens",)),
    ("cached", ("prompt_cache_hit_tokens", "cached_tokens")),
)
_DETAILS = (
    ("cached", ("prompt_tokens_details", "input_tokens_details"), "cached_tokens"),
    ("written", ("prompt_tokens_details", "input_tokens_details"), "cache_write_tokens"),
    ("reasoning", ("completion_tokens_details", "output_tokens_details"), "reasoning_tokens"),
)


class OpenAIUsage:
    """The greatest figures seen, as disjoint buckets."""

    __slots__ = ("_figures",)

    def __init__(self) -> None:
        self._figures = Figures()

    def update(self, usage: object, *, output: bool = True) -> bool:
        """Take what a ``usage`` object says.

        Args:
            output: Whether such answers have any.

        Returns:
            Whether it tells all that is billed.
        """
        if not isinstance(usage, dict):
            return False
        see = self._figures.see
        told = set()
        for figure, names in _FIGURES:
            for name in names:
                if see(figure, usage.get(name)):
                    told.add(figure)
        for figure, groups, name in _DETAILS:
            for group in groups:
                part = usage.get(group)
                if isinstance(part, dict):
                    see(figure, part.get(name))
        return "input" in told and ("output" in told or not output)

    @property
    def input_told(self) -> bool:
        """Whether the input was told."""
        return self._figures.has("input")

    def usage(self) -> Usage:
        """Disjoint buckets; what is beyond the input it is a part of is not believed."""
        get = self._figures.get
        whole, output, reasoning = get("input"), get("output"), get("reasoning")
        cached = min(get("cached"), whole)
        written = min(get("written"), whole - cached)
        if reasoning and get("total") == whole + output + reasoning:
            output += reasoning
        return Usage(
            input=whole - cached - written,
            cache_read=cached,
            cache_write_5m=written,
            output=output,
            reasoning=min(reasoning, output),
        )
