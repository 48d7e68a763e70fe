"""The bus as people look at it: ``agenttop bus mailboxes|dead|revive|drop|waits|message|trace``."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from .. import format as f
from ..main import complain
from . import messages, printing
from .kernel_call import call as with_client
from .kernel_call import checked
from .mail import Ids
from .options import Json, Ref, Yes, complete_agents
from .syscall import ask, message_id

if TYPE_CHECKING:
    from agenttop.core.api.bus import BusChange, MessageRow
    from agenttop.core.client import KernelClient

bus = typer.Typer(help="Look at messages, mailboxes, dead letters, waits.", no_args_is_help=True)

_Of = Annotated[
    str | None,
    typer.Argument(metavar="[AGENT]", help="Of this agent only.", autocompletion=complete_agents),
]
_Some = Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="These only, such as m12.")]


@bus.command()
def mailboxes(as_json: Json = False) -> None:
    """List mailboxes. What is unread, what is in the agent's hands, and how old the oldest is."""
    found = ask("bus.mailboxes")
    if as_json:
        printing.json(found)
        return
    now = time.time()
    rows = [
        [
            box["agent"],
            box["name"],
            str(box["unread"]),
            str(box["taken"]),
            str(box["limit"]),
            f.UNKNOWN if box["oldest"] is None else f.age(now - box["oldest"]),
            str(box["dead"]),
            ", ".join(box["patterns"]) or f.UNKNOWN,
        ]
        for box in found
    ]
    header = ("ID", "NAME", "UNREAD", "TAKEN", "LIMIT", "OLDEST", "DEAD", "SUBSCRIBED")
    printing.table(header, rows, right=header[2:7], drop=("LIMIT", "TAKEN", "ID"))


@bus.command()
def dead(
    agent: _Of = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="So many at most.")] = 1_000,
    as_json: Json = False,
) -> None:
    """Print dead letters. Mail that could not be delivered, and why."""
    found = ask("bus.dead", agent=agent, limit=limit)
    if as_json:
        printing.json(found)
        return
    for letter in found:
        printing.line(messages.head(letter["message"]))
        times = f"tried {letter['attempts']} times" if letter["attempts"] else ""
        whose = f"to {letter['name']} ({letter['agent']})"
        printing.line(messages.facts(whose, f"dead: {letter['reason']}", times))
        for line in messages.quoted(messages.content(letter["message"]["payload"])):
            printing.line(line)


@bus.command()
def revive(ref: Ref, ids: _Some = None, as_json: Json = False) -> None:
    """Put an agent's dead letters back into its mailbox. Without ids all of them."""
    _done(ask("bus.revive", agent=ref, ids=[message_id(one) for one in ids or ()]), as_json)


@bus.command()
def drop(ref: Ref, ids: _Some = None, yes: Yes = False, as_json: Json = False) -> None:
    """Throw an agent's dead letters away. Without ids all of them."""
    count = f"{len(ids)}" if ids else "all"
    printing.confirm(f"throw {count} dead letters of {ref} away?", yes)
    _done(ask("bus.drop", agent=ref, ids=[message_id(one) for one in ids or ()]), as_json)


def _done(outcomes: Iterable[Mapping[str, Any]], as_json: bool) -> None:
    from agenttop.core.api import Outcome

    done = [Outcome.model_validate(one) for one in outcomes]
    raise typer.Exit(printing.outcomes(done, as_json=as_json))


@bus.command()
def waits(as_json: Json = False) -> None:
    """List who waits for whose reply; then rings, in which everybody waits for the next."""
    found = ask("bus.waits")
    if as_json:
        printing.json(found)
        return
    now = time.time()
    rows = [
        [
            one["asker_name"],
            one["asked_name"],
            one["request"],
            f.age(now - one["since"]),
            f.age(one["deadline"] - now),
        ]
        for one in found["waits"]
    ]
    printing.table(("WAITS", "FOR", "REQUEST", "SINCE", "LEFT"), rows, right=("SINCE", "LEFT"))
    for ring in found["rings"]:
        printing.line(f.clean(f"deadlock: {' -> '.join([*ring, ring[0]])}"))


@bus.command()
def message(
    ids: Ids,
    conversation: Annotated[
        bool, typer.Option("--conversation", "-c", help="All messages of its conversation, oldest first.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print messages."""
    from agenttop.core.errors import AgentTopError

    found: list[dict[str, Any]] = []
    errors: list[AgentTopError] = []
    for one in ids:
        try:
            if conversation:
                found += ask("bus.conversation", id=message_id(one))
            else:
                found.append(ask("bus.message", id=message_id(one)))
        except AgentTopError as error:
            errors.append(error)
    if as_json:
        printing.json(found)
    else:
        for each in found:
            for line in messages.told(each):
                printing.line(line)
    for failed in errors:
        complain(failed)
    if errors:
        raise typer.Exit(max(failed.exit_code for failed in errors))


@bus.command()
def trace(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on: a line for every change.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", help="So many of the newest first.")] = 50,
    grep: Annotated[
        str, typer.Option("--grep", "-g", help="Only with this in sender, receiver, type or text.")
    ] = "",
    conversation: Annotated[
        str, typer.Option("--trace", metavar="TRACE", help="Only this conversation: 32 hex digits.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Print messages as they go by: from, to, type, size, how far each has come, and how long it took."""

    async def print_rows(client: KernelClient) -> None:
        from agenttop.core.api.bus import WATCH, BusWatchRequest

        request = checked(BusWatchRequest, rows=max(tail, 1), text=grep, trace=conversation)
        stream = cast("AsyncGenerator[BusChange, None]", client.follow(WATCH, request))
        first = True
        async with aclosing(stream) as changes:
            async for change in changes:
                for row in change.rows if tail or not first else ():
                    _print_row(row, as_json)
                first = False
                sys.stdout.flush()
                if not follow:
                    return

    with_client(print_rows)


def _print_row(row: MessageRow, as_json: bool) -> None:
    if as_json:
        import orjson

        printing.line(orjson.dumps(row._asdict()).decode())
        return
    took = f.UNKNOWN if row.latency is None else f"{row.latency * 1000:.0f}ms"
    note = f" ({row.note})" if row.note else ""
    printing.line(
        f"{f.clock(row.at)}  m{row.seq:<6} {f.clean(row.sender)} -> {f.clean(row.to)}  {row.kind} "
        f"{f.clean(row.type)}  {f.size(row.size)}  {f.clean(row.state + note)}  {took}  {f.clean(row.text)}"
    )
