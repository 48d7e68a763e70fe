"""``agenttop events``: the journal, as it was and as it grows."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ..format import clean
from . import printing
from .kernel_call import call, chosen_hosts
from .options import Json, OptionalRefs

if TYPE_CHECKING:
    from agenttop.core.api import EventInfo
    from agenttop.core.client import KernelClient


def events(
    refs: OptionalRefs = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as things happen.")] = False,
    since: Annotated[
        int | None, typer.Option(min=0, help="Every row after this one; 0 is the first.")
    ] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only these kinds, such as RunExited.")] = None,
    tail: Annotated[
        int, typer.Option("--tail", "-n", min=0, help="Without --since: so many of the newest.")
    ] = 50,
    as_json: Json = False,
) -> None:
    """Print what happened. The newest rows worth a look, or with --since every row without loss or repeat."""

    async def print_events(client: KernelClient) -> None:
        start = since
        if start is None:
            start = (await client.status()).seq
            newest = await client.last_events(tail, refs or ()) if tail else []
            if newest and len(chosen_hosts()) > 1:
                # A row of several journals has a number of its own, given when it is told.
                start = newest[-1].seq
            for event in newest:
                # What came since "start" is followed below; without following it is among the newest.
                if (event.seq <= start or not follow) and (not kind or event.kind in kind):
                    _print(event, as_json)
            if not follow:
                return
        stream = client.events(since=start, follow=follow, refs=refs or (), kinds=kind or ())
        async with aclosing(cast("AsyncGenerator[EventInfo, None]", stream)) as rows:
            async for event in rows:
                _print(event, as_json)
                if follow:
                    sys.stdout.flush()

    call(print_events)


def _print(event: EventInfo, as_json: bool) -> None:
    if as_json:
        import orjson

        printing.line(orjson.dumps(event._asdict(), option=orjson.OPT_NON_STR_KEYS).decode())
        return
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.ts))
    printing.line(
        f"{event.seq:>7}  {when}  {clean(event.name or event.agent or '-'):<16}  {clean(event.text)}"
    )
