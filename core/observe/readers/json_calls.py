"""The base of readers of calls out of files of JSON lines, of those CLIs whose lines are few and short."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import orjson

from ..index.calls import Call, count, digest, milliseconds
from .tally import Tally


class JsonCalls(ABC):
    """Gathers the calls of one file; a format says which lines matter and what they tell.

    Attributes:
        calls: The last copy of each call, by its key, in the order of ``Call``.
        odd: Lines that look like a call but could not be read.
        facts: ``session``, ``cwd`` and the like, as far as the lines tell.
        models: Names of the models, by digest.
        restart: Never; what an earlier reading found stays found.
        apart: Where subagents' calls go, by the subagent's id; ``None``: among all the others.
    """

    suffix = ".jsonl"
    #: A line with none of these is passed over unparsed.
    needles: ClassVar[tuple[bytes, ...]] = ()

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self.calls: dict[tuple[int, int], tuple[int, ...]] = {}
        self.odd = 0
        self.facts: dict[str, Any] = dict(state or {})
        self.models: dict[int, str] = {}
        self.restart = False
        self.apart: dict[str, Tally] | None = None

    @property
    def state(self) -> dict[str, Any]:
        """What the next reading of this file has to know."""
        return self.facts

    def feed(self, buffer: bytearray, end: int) -> None:
        """Read whole lines: ``buffer[:end]``."""
        find, needles = buffer.find, self.needles
        begin = 0
        with memoryview(buffer) as view:
            while begin < end:
                stop = find(b"\n", begin, end)
                if any(find(needle, begin, stop) >= 0 for needle in needles):
                    self._line(view[begin:stop])
                begin = stop + 1

    def _line(self, line: memoryview) -> None:
        try:
            self.entry(orjson.loads(line))
        except (ValueError, TypeError, AttributeError, OverflowError, KeyError, IndexError):
            self.odd += 1
        finally:
            line.release()

    @abstractmethod
    def entry(self, data: dict[str, Any]) -> None:
        """Read one line.

        Raises:
            ValueError: It is not what it should be; so do the errors of taking it apart.
        """

    def put(
        self,
        identity: str,
        time: str,
        model: str,
        *,
        whole: object,
        read: object,
        output: object,
        written: object = 0,
        reasoning: object = 0,
        agent: str = "",
    ) -> None:
        """One call, by OpenAI's and Google's way of counting.

        Args:
            whole: Input with what was read from the cache and written to it.
            output: With the reasoning.

        Raises:
            ValueError: A count is none.
        """
        total, cached = count(whole), count(read)
        cached = min(cached, total)
        made = min(count(written), total - cached)
        out = count(output)
        if not (total or out):
            return
        name = digest(model)
        self.models[name] = model
        if model:
            self.facts["model"] = model
        message = digest(identity)
        thought = min(count(reasoning), out)
        when = milliseconds(time)
        call = Call(message, 0, when, name, total - cached - made, cached, made, 0, out, thought)
        calls = self.calls
        if agent and self.apart is not None:
            calls = self.apart.setdefault(agent, Tally()).calls
        old = calls.get((message, 0))
        # Rewritten: the last counts; the time stays the first one, so that no call wanders over midnight.
        calls[message, 0] = call if old is None else call._replace(time=old[2])
