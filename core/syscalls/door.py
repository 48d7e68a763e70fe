"""The agents' HTTP door to system calls: JSON in, JSON out, as one agent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import orjson

from ..bus.errors import TooFast
from ..bus.rates import Rates
from ..errors import AgentTopError, Forbidden, UsageError
from ..journal import events as ev
from .caller import Caller
from .under_way import Tell, UnderWay, failed, said

if TYPE_CHECKING:
    from ..api.verbs import Verb
    from ..kernel import Kernel
    from .hot import Begin
    from .table import Syscalls

BATCHED = frozenset({"bus.send", "bus.publish"})
"""Calls of which several may be made in one request, as a list."""
MOST = 1_000
"""How many."""
AT_ONCE = 64
"""Calls of one agent that may be under way at once, those that wait included."""
RATE, BURST = 2_000.0, 4_000
"""Requests one agent may make in a second on average, and at once."""

Said = tuple[int, bytes]

Shortcut = Callable[[str, bytes, Tell], UnderWay | None]


class TooMany(TooFast):
    """This agent asks more at once, or faster, than it may."""


class AgentDoor:
    """Answers the gateway (``SyscallDoor``): bounds, the kill switch, then the table of system calls.

    Nobody is answered while the fleet is halted or the agent is held or frozen; its calls go on after that.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._rates = Rates(RATE, BURST)
        self._under_way: dict[str, int] = {}
        self._verbs: dict[str, Verb[Any, Any]] = {}
        self._hot: Mapping[str, Begin] = {}
        self._trimmed = 0.0

    def follow(self) -> None:
        """Keep mail from agents that are stopped, until they go on. Once, when the bus is open."""
        mail, desk, books = self._kernel.bus.mail, self._kernel.desk, self._kernel.books

        def posted(event: ev.Event) -> None:
            if isinstance(event, ev.AgentResumed | ev.RunExited) and event.agent is not None:
                mail.let_go((event.agent,))
            elif isinstance(event, ev.FleetUnhalted):
                mail.let_go()

        mail.held = desk.frozen
        books.on_post(posted)
        books.on_refold(mail.let_go)

    async def answer(self, agent: str, run: int, name: str, body: bytes) -> Said:
        """See ``SyscallDoor``."""
        try:
            self._bounded(agent)
        except AgentTopError as error:
            return error.status, said(error)
        self._under_way[agent] = self._under_way.get(agent, 0) + 1
        try:
            caller = Caller(agent, await self._let(agent), run)
            return await self._made(caller, name, body)
        except AgentTopError as error:
            return error.status, said(error)
        except Exception as error:  # noqa: BLE001 - logged, and told to the agent
            return failed(name, error)
        finally:
            self._over(agent)

    def shortcut(self, name: str) -> Shortcut | None:
        """See ``SyscallDoor``: for the calls that come by the thousand, once somebody has made one."""
        hot = self._hot.get(name)
        return None if hot is None else partial(self._begin, name, hot)

    def _begin(self, name: str, hot: Begin, agent: str, body: bytes, tell: Tell) -> UnderWay | None:
        """The same as ``answer`` without a task; ``None``, with nothing done, where that cannot be."""
        gate = self._kernel.desk.gate
        record = self._kernel.books.pending.agents.get(agent)
        if record is None or not record.live or record.freeze is not None or gate.closed(record):
            return None
        many = self._under_way.get(agent, 0)
        if many >= AT_ONCE or self._taken(agent):
            return None
        self._under_way[agent] = many + 1
        call = UnderWay(name, agent, tell, self._over)
        try:
            if hot(agent, body, call):
                return call
        except Exception as error:  # noqa: BLE001 - told to the agent, and logged if it is the kernel's
            call.fail(error)
            return call
        self._over(agent)
        self._rates.give_back(agent)
        return None

    def _over(self, agent: str) -> None:
        many = self._under_way[agent] - 1
        if many:
            self._under_way[agent] = many
        else:
            del self._under_way[agent]

    def _taken(self, agent: str) -> float:
        """Take one call of the agent's rate: 0, or the seconds it has to wait."""
        now = self._kernel.clock.monotonic()
        wait = self._rates.take(agent, now)
        if now - self._trimmed > BURST / RATE:
            self._trimmed = now
            self._rates.trim(now)
        return wait

    def _bounded(self, agent: str) -> None:
        if self._under_way.get(agent, 0) >= AT_ONCE:
            raise TooMany(
                f"{AT_ONCE} calls of this agent are under way",
                "No more are taken until one of them is answered",
                "Wait for an answer; read mail with one call at a time",
            )
        wait = self._taken(agent)
        if wait:
            raise TooMany(
                f"this agent makes more than {RATE:g} calls a second",
                f"The next one may be made in {wait:.3f} s",
                "Put more into one call: a list of messages, a larger limit, several ids",
            )

    async def _let(self, agent: str) -> str:
        """Wait while the agent is held or stopped; whose agent it is.

        Raises:
            Refused: It ended meanwhile.
        """
        gate = self._kernel.desk.gate
        record = gate.agent(agent)
        while gate.closed(record) or record.freeze is not None:
            await gate.changed()
            record = gate.agent(agent)
        return record.owner

    async def _made(self, caller: Caller, name: str, body: bytes) -> Said:
        hot = self._hot.get(name)
        if hot is not None and (answer := await awaited(name, hot, caller, body)) is not None:
            return answer
        if not self._verbs:
            await self._open()
        calls = self._kernel.syscalls
        verb = self._verb(name)
        if body.lstrip(b" \t\r\n")[:1] == b"[":
            return 200, await self._several(calls, caller, verb, body)
        return 200, await self._one(calls, caller, verb, body)

    async def _one(self, calls: Syscalls, caller: Caller, verb: Verb[Any, Any], body: bytes) -> bytes:
        request = checked(verb, body)
        answer: bytes = verb.answer.dump_json(await calls.call(caller, verb, request))
        return answer

    async def _several(self, calls: Syscalls, caller: Caller, verb: Verb[Any, Any], body: bytes) -> bytes:
        """A list of answers, in the order of the requests, which is also the order they are made in."""
        items = listed(verb.name, body)
        answers: list[bytes] = [b""] * len(items)

        async def make(place: int, item: Any) -> None:
            answers[place] = await told(verb.name, lambda: self._item(calls, caller, verb, item))

        # Tasks begin in the order they are started in, and each posts before it first waits.
        async with anyio.create_task_group() as tasks:
            for place, item in enumerate(items):
                tasks.start_soon(make, place, item)
        return b"[" + b",".join(answers) + b"]"

    async def _item(self, calls: Syscalls, caller: Caller, verb: Verb[Any, Any], item: Any) -> bytes:
        if isinstance(item, dict) and item.get("wait"):
            raise UsageError(
                "a message in a list cannot wait for room",
                "Those behind it would overtake it",
                "Send it alone, or without wait",
            )
        try:
            body = orjson.dumps(item)
        except TypeError as error:  # it can be read deeper than written
            raise UsageError(
                "the request is not valid", str(error), "Send it flatter, or as a text"
            ) from error
        return await self._one(calls, caller, verb, body)

    def _verb(self, name: str) -> Verb[Any, Any]:
        """The verb an agent may ask by this name.

        Raises:
            UsageError: There is none. Forbidden: only people may.
        """
        verb = self._verbs.get(name)
        if verb is None:
            may = ", ".join(one.name for one in self._verbs.values() if one.agents)
            raise UsageError(f"there is no call {name[:80]!r}", "", f"There are {may}")
        if not verb.agents or verb.stream:
            raise Forbidden(
                f"an agent may not call {name}", "Only a person may", "Ask the person who started it"
            )
        return verb

    async def _open(self) -> None:
        # The models behind the verbs take a while to be made, which no stream is to notice.
        await anyio.to_thread.run_sync(_import_models)
        from .hot import HotCalls

        self._hot = HotCalls(self._kernel.mailroom).named
        self._verbs = {verb.name: verb for verb in self._kernel.syscalls.verbs}


async def awaited(name: str, hot: Begin, caller: Caller, body: bytes) -> Said | None:
    """A hot call, waited for; ``None`` where it has to go the usual way. Cancelling is leaving."""
    answer: asyncio.Future[Said] = asyncio.get_running_loop().create_future()

    def tell(status: int, answered: bytes) -> None:
        if not answer.done():
            answer.set_result((status, answered))

    call = UnderWay(name, caller.mailbox, tell, lambda agent: None)
    if not hot(caller.mailbox, body, call):
        return None
    try:
        return await answer
    finally:
        call.client_gone()


async def told(name: str, make: Callable[[], Awaitable[bytes]]) -> bytes:
    """One answer of several: an error is the answer, too."""
    try:
        return await make()
    except AgentTopError as error:
        return said(error)
    except Exception as error:  # noqa: BLE001 - logged, and told to the agent
        return failed(name, error)[1]


def checked(verb: Verb[Any, Any], body: bytes) -> Any:
    """The request in ``body``.

    Raises:
        UsageError: It is none; each fault is named, without what was given: that may be a secret.
    """
    from pydantic import ValidationError

    try:
        return verb.request.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise invalid(error) from error


def invalid(error: Any) -> UsageError:
    """What is wrong with a request, for its sender to mend."""
    faults = [
        f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors(include_url=False)
    ]
    return UsageError("the request is not valid", "; ".join(faults[:5]))


def listed(name: str, body: bytes) -> list[Any]:
    """The requests of a list.

    Raises:
        UsageError: It is no JSON, there are too many, or this call is made one at a time.
    """
    if name not in BATCHED:
        raise UsageError(f"{name} takes one request at a time", "", "Send a JSON object")
    try:
        items = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UsageError("the request is not JSON", str(error)) from error
    if len(items) > MOST:
        raise UsageError(f"the list has {len(items)} requests", f"One may have {MOST}", "Send it in parts")
    return items  # type: ignore[no-any-return]


def _import_models() -> None:
    from ..api import bus, memory, selves

    for module in (bus, memory, selves):
        for verb in module.VERBS:
            verb.answer  # noqa: B018 - built when first looked at
