"""The mock provider: composes dialects, caching, pace, limits, conduct and truth into one HTTP service."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.lowlevel
import orjson

from agenttop.core.clock import Clock, SystemClock

from .anthropic import AnthropicMessages
from .ask import Answer, Ask, Dialect, Event, Invalid, Route
from .directives import Behaviour, Conduct, parse_behaviour, parse_directives
from .gemini import GeminiApi
from .http import Exchange, Request, Server, header_lines
from .limits import PerMinute, RateLimits
from .openai_chat import ChatCompletions
from .openai_responses import Responses
from .pace import INSTANT, Pace, pace_of
from .plan import reply_to, rng_for
from .prompt_cache import PromptCache
from .telling import misled, misled_events
from .truth import Entry, Outcome, Truth, Usage, key_digest

_KEPT_HEADERS = (
    "user-agent",
    "x-agent",
    "x-claude-code-session-id",
    "x-claude-code-agent-id",
    "anthropic-beta",
)
_JSON = ("content-type", "application/json")


class _Ended(Exception):
    """The call is over: an error was answered, or the connection was ended on purpose."""


class MockProvider:
    """A model provider on loopback: ``async with MockProvider(speed=INSTANT) as provider: provider.url``.

    ``speed`` is a factor on the pace of life, ``INSTANT`` is no waiting. With ``key`` every other key is
    refused with 401. The same seed and the same requests give the same replies. ``sleep`` is how a reply's
    pace passes; with a held ``clock`` it must move that clock.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        speed: float = INSTANT,
        host: str = "127.0.0.1",
        port: int = 0,
        truth_file: Path | None = None,
        key: str = "",
        per_minute: PerMinute | None = None,
        enforce_limits: bool = False,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        dialects: Sequence[Dialect] = (),
    ) -> None:
        self.seed = seed
        self.speed = speed
        self.truth = Truth(truth_file)
        self.conduct = Conduct()
        self.cache = PromptCache()
        self.limits = RateLimits(per_minute, enforce=enforce_limits)
        self._key = key
        self._clock = clock or SystemClock()
        self.sleep = sleep
        self._dialects: tuple[Dialect, ...] = tuple(dialects) or (
            AnthropicMessages(),
            Responses(),
            ChatCompletions(),
            GeminiApi(),
        )
        self._server = Server(self._handle, host=host, port=port)
        self._host = host

    async def __aenter__(self) -> Self:
        await self._server.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return await self._server.__aexit__(kind, error, trace)
        finally:
            self.truth.close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    @property
    def url(self) -> str:
        """The base URL to configure."""
        return f"http://{self._host}:{self.port}"

    # --- requests -------------------------------------------------------------------------------

    async def _handle(self, request: Request, exchange: Exchange) -> None:
        if request.path in ("/_truth", "/_behave"):
            self._control(request, exchange)
            return
        for dialect in self._dialects:
            route = dialect.route(request)
            if route is None:
                continue
            if route.kind in ("generate", "embed"):
                await _Call(self, dialect, route, request, exchange).run()
            else:
                self._other(dialect, route, request, exchange)
            return
        self.truth.count(f"{request.method} unknown")
        body = self._dialects[0].trouble(404, f"{request.method} {request.path}: Not found", "")
        exchange.respond(404, [_JSON], body)

    def _other(self, dialect: Dialect, route: Route, request: Request, exchange: Exchange) -> None:
        self.truth.count(f"{request.method} {route.kind}")
        request_id = self.identifier("req_011", len(self.truth.other), route.kind)
        try:
            status, body = dialect.other(route, request)
        except Invalid as error:
            status, body = error.status, dialect.trouble(error.status, error.message, request_id)
        exchange.respond(status, [_JSON, (dialect.manners.request_id, request_id)], body)

    def _control(self, request: Request, exchange: Exchange) -> None:
        status, data = 200, {}
        try:
            match (request.method, request.path):
                case ("GET", "/_truth"):
                    data = self._told(request)
                case ("GET", "/_behave"):
                    data = {"rules": self.conduct.rules()}
                case ("POST", "/_behave"):
                    rules = orjson.loads(request.body)
                    for rule in rules if isinstance(rules, list) else [rules]:
                        self.conduct.add(parse_behaviour(rule))
                    data = {"rules": self.conduct.rules()}
                case ("DELETE", "/_behave"):
                    self.conduct.clear()
                    data = {"rules": []}
                case _:
                    status, data = 405, {"error": "method not allowed"}
        except (Invalid, orjson.JSONDecodeError) as error:
            status, data = 400, {"error": str(error)}
        exchange.respond(status, [_JSON], orjson.dumps(data))

    def _told(self, request: Request) -> dict[str, object]:
        since = request.query.get("since", "0")
        if not since.isdigit():
            raise Invalid("since is a call's number")
        agent, key = request.query.get("agent", ""), request.query.get("key", "")
        entries = self.truth.select(agent=agent, key=key, since=int(since))
        return {
            "calls": [entry.to_dict() for entry in entries],
            "total": self.truth.total(entries)._asdict(),
            "other": self.truth.other,
        }

    # --- what calls need ------------------------------------------------------------------------

    @property
    def clock(self) -> Clock:
        """The clock of this provider."""
        return self._clock

    def identifier(self, prefix: str, number: int, salt: str = "") -> str:
        """An id as the provider writes them, the same for the same seed and number."""
        digest = blake2b(f"{self.seed}.{number}.{prefix}.{salt}".encode(), digest_size=11)
        return prefix + digest.hexdigest()

    def check_key(self, request: Request) -> None:
        """Refuse a wrong key.

        Raises:
            Invalid: 401.
        """
        if self._key and key_of(request) != self._key:
            raise Invalid("invalid x-api-key", 401)


def key_of(request: Request) -> str:
    """The key a request came with, wherever its dialect puts it."""
    for name in ("x-api-key", "x-goog-api-key", "api-key"):
        if given := request.headers.get(name):
            return given
    return request.headers.get("authorization", "").removeprefix("Bearer ") or request.query.get("key", "")


class _Call:
    """One model call, from its request to its last byte, with its entry in the truth."""

    def __init__(
        self, provider: MockProvider, dialect: Dialect, route: Route, request: Request, exchange: Exchange
    ) -> None:
        self._provider = provider
        self._dialect = dialect
        self._route = route
        self._request = request
        self._exchange = exchange
        self._begun = provider.clock.monotonic()
        number = len(provider.truth.entries) + 1
        self._entry = Entry(
            number=number,
            request_id=provider.identifier("req_011", number),
            id=provider.identifier(dialect.manners.message_id, number),
            dialect=dialect.name,
            path=request.path,
            prefix=route.prefix,
            agent=request.headers.get("x-agent", route.prefix),
            headers={name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers},
            key=key_digest(key_of(request)),
            model="",
            stream=False,
            started=provider.clock.time(),
        )
        self._behaviour: Behaviour | None = None

    async def run(self) -> None:
        """Answer, or misbehave as told; the entry is ended whatever happens."""
        entry = self._entry
        try:
            ask = self._read()
        except Invalid as error:
            self._provider.truth.begin(entry)
            self._refuse(error.status, error.message)
            return
        entry.model, entry.stream = ask.model, ask.stream
        self._provider.truth.begin(entry)
        self._behaviour = self._provider.conduct.judge(ask, entry.agent)
        try:
            await self._answer(ask)
        except _Ended:
            return
        finally:
            if entry.outcome == "running":
                self._end("disconnected")

    def _read(self) -> Ask:
        ask = self._dialect.parse(self._request)
        self._provider.check_key(self._request)
        parse_directives(ask.directives)
        return ask

    def _embed(self, ask: Ask) -> None:
        """Answer with vectors, which are all input."""
        entry = self._entry
        status, body = self._dialect.other(self._route, self._request)
        entry.status, entry.usage = status, Usage(input=ask.tokens)
        entry.planned, entry.announced = entry.usage, {"prompt_tokens": ask.tokens}
        self._end("complete", sent=len(body))
        self._exchange.respond(status, [_JSON, *self._reply_headers(ask.model)], body)

    async def _answer(self, ask: Ask) -> None:
        if self._misdeed == "refuse_usage" and ask.wants_usage:
            self._refuse(400, "Unrecognized request argument supplied: stream_options")
            return
        await self._before_headers()
        if self._route.kind == "embed":
            self._embed(ask)
            return
        now = self._provider.clock.monotonic()
        usage = self._provider.cache.charge(ask.model, ask.blocks, now)
        if not ask.bills_writes:
            usage = Usage(input=usage.context - usage.cache_read, cache_read=usage.cache_read)
        fresh = usage.context - usage.cache_read
        if (wait := self._provider.limits.admit(ask.model, fresh, now)) > 0:
            self._refuse(
                429, "This request would exceed your organization's rate limit", retry_after=math.ceil(wait)
            )
            return
        rng = rng_for(self._provider.seed, ask)
        reply = reply_to(ask, rng)
        usage = usage._replace(output=reply.output, thinking=reply.thinking)
        tool_ids = tuple(
            self._provider.identifier(self._dialect.manners.tool_id, self._entry.number, str(index))
            for index in range(len(reply.parts))
        )
        answer = Answer(ask, reply, usage, self._entry.id, tool_ids)
        self._entry.planned = usage
        self._entry.usage = usage._replace(output=0, thinking=0)
        self._entry.stop_reason = reply.stop
        self._entry.tools = [part.tool for part in reply.parts if part.kind == "tool"]
        slow = self._behaviour.factor if self._misdeed == "slow" and self._behaviour else 1.0
        pace = pace_of(ask.model, fresh, self._provider.speed, rng)
        pace = Pace(pace.first * slow, pace.each * slow)
        if slow != 1.0 and self._provider.speed == INSTANT:
            pace = Pace(0.01 * slow, 0.0005 * slow)
        self._provider.limits.spend(ask.model, usage.output, now)
        await (self._stream(answer, pace) if ask.stream else self._whole(answer, pace))

    # --- misbehaviour ---------------------------------------------------------------------------

    @property
    def _misdeed(self) -> str:
        return self._behaviour.do if self._behaviour else ""

    async def _before_headers(self) -> None:
        behaviour = self._behaviour
        if behaviour is None:
            return
        if behaviour.do == "drop":
            self._end("dropped")
            await self._exchange.cut()
            raise _Ended
        if behaviour.do == "error":
            message = (
                "Overloaded" if behaviour.status == 529 else f"The mock was asked for a {behaviour.status}"
            )
            self._refuse(behaviour.status, message, behaviour.retry_after, behaviour.should_retry)
            raise _Ended
        if behaviour.do == "hang" and behaviour.after == 0:
            await self._hang()

    async def _hang(self) -> None:
        seconds = self._behaviour.seconds if self._behaviour else None
        await (anyio.sleep_forever() if seconds is None else anyio.sleep(seconds))

    async def _in_the_middle(self) -> None:
        """Do in a stream what was asked for after ``after`` events; a hang may go on afterwards."""
        match self._misdeed:
            case "cut" | "reset":
                self._end("cut")
                await self._exchange.cut(reset=self._misdeed == "reset")
                raise _Ended
            case "stream_error":
                self._end("error")
                self._exchange.write(
                    self._dialect.stream_trouble("Overloaded", self._entry.request_id), last=True
                )
                raise _Ended
            case "malformed":
                self._end("malformed")
                self._exchange.write(self._dialect.manners.garbage, last=True)
                raise _Ended
            case "hang":
                await self._hang()

    def _refuse(
        self, status: int, message: str, retry_after: float | None = None, should_retry: bool | None = None
    ) -> None:
        headers = header_lines(
            [
                _JSON,
                (self._dialect.manners.request_id, self._entry.request_id),
                ("retry-after", None if retry_after is None else f"{retry_after:g}"),
                ("x-should-retry", None if should_retry is None else str(should_retry).lower()),
            ]
        )
        body = self._dialect.trouble(status, message, self._entry.request_id)
        self._entry.status = status
        self._end("refused")
        self._exchange.respond(status, headers, body)

    # --- the reply ------------------------------------------------------------------------------

    async def _whole(self, answer: Answer, pace: Pace) -> None:
        entry = self._entry
        body, announced = self._dialect.body(answer)
        if self._behaviour and self._misdeed == "usage":
            body = misled(body, self._behaviour.telling)
        await self._until(pace.due(answer.usage.output))
        headers = [_JSON, *self._reply_headers(answer.ask.model)]
        if self._misdeed == "stream_error":
            self._refuse(529, "Overloaded")
            return
        self._exchange.start(200, headers, length=len(body))
        entry.status, entry.first_byte = 200, self._provider.clock.time()
        if self._misdeed in ("cut", "reset"):
            self._exchange.write(body[: len(body) // 2])
            await self._exchange.drain()
            await self._in_the_middle()
        if self._misdeed == "malformed":
            self._end("malformed")
            self._exchange.write(b"{" * len(body), last=True)
            return
        if self._misdeed == "hang" and self._behaviour and self._behaviour.after:
            await self._hang()
        await anyio.lowlevel.checkpoint()
        entry.usage, entry.announced = answer.usage, announced
        self._end("complete", sent=len(body))
        self._exchange.write(body, last=True)

    async def _stream(self, answer: Answer, pace: Pace) -> None:
        entry, exchange = self._entry, self._exchange
        events = self._dialect.events(answer)
        if self._behaviour and self._misdeed == "usage":
            events = misled_events(events, self._behaviour.telling)
        entry.events_planned = len(events)
        headers = [("content-type", answer.ask.stream_type), ("cache-control", "no-cache")]
        entry.status = 200
        exchange.start(200, [*headers, *self._reply_headers(answer.ask.model)])
        trouble_at = -1
        if self._behaviour and self._misdeed in ("cut", "reset", "hang", "stream_error", "malformed"):
            trouble_at = min(self._behaviour.after, len(events) - 1)
            if self._misdeed == "hang" and not self._behaviour.after:
                trouble_at = -1  # it was before the headers
        done = 0
        while done < len(events):
            if done == trouble_at:
                await self._in_the_middle()
                trouble_at = -1
            await self._until(pace.due(events[done].output) if done else pace.first)
            stop = trouble_at if trouble_at > done else len(events)
            batch = self._due(events[done:stop], pace)
            done += len(batch)
            await anyio.lowlevel.checkpoint()
            data = b"".join(event.data for event in batch)
            if done == len(events):
                self._note(batch, answer)
                entry.usage = answer.usage
                self._end("complete", sent=entry.bytes_sent + len(data))
                exchange.write(data, last=True)
                return
            exchange.write(data)
            await exchange.drain()
            self._note(batch, answer)
            entry.bytes_sent += len(data)

    def _due(self, events: list[Event], pace: Pace) -> list[Event]:
        """The first event and those after it whose time has come too: one write for all."""
        elapsed = self._provider.clock.monotonic() - self._begun
        count = 1
        while count < len(events) and pace.due(events[count].output) <= elapsed:
            count += 1
        return events[:count]

    def _note(self, events: list[Event], answer: Answer) -> None:
        """Count what the client has been sent."""
        entry = self._entry
        if entry.first_byte is None:
            entry.first_byte = self._provider.clock.time()
        entry.events_sent += len(events)
        output = max(entry.usage.output, *(event.output for event in events))
        entry.usage = entry.usage._replace(output=output, thinking=min(output, answer.usage.thinking))
        for event in events:
            if event.announced is not None:
                entry.announced = event.announced

    def _reply_headers(self, model: str) -> list[tuple[str, str]]:
        clock, manners = self._provider.clock, self._dialect.manners
        organization = [("anthropic-organization-id", "00000000-0000-4000-8000-00000000d360")]
        return [
            (manners.request_id, self._entry.request_id),
            *(organization if manners.limits == "anthropic" else []),
            *self._provider.limits.headers(model, clock.monotonic(), clock.time(), manners.limits),
        ]

    async def _until(self, due: float) -> None:
        wait = self._begun + due - self._provider.clock.monotonic()
        if wait > 0:
            await self._provider.sleep(wait)

    # --- the entry ------------------------------------------------------------------------------

    def _end(self, outcome: Outcome, *, sent: int | None = None) -> None:
        entry = self._entry
        entry.outcome = outcome
        entry.ended = self._provider.clock.time()
        if sent is not None:
            entry.bytes_sent = sent
        if outcome in ("refused", "dropped"):
            entry.usage = Usage()
        self._provider.truth.end(entry)
