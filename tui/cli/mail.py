"""Messages between agents and people: ``send ask reply inbox ack publish subscribe unsubscribe topic``."""

from __future__ import annotations

from typing import Annotated

import typer

from . import mailing, printing
from .options import Json, complete_agents
from .syscall import ask as call

To = Annotated[
    str,
    typer.Argument(
        metavar="TO",
        help="Name, id or id prefix; @me is the person; '*' everybody.",
        autocompletion=complete_agents,
    ),
]
Text = Annotated[str | None, typer.Argument(metavar="TEXT", help="What it says; - for standard input.")]
Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="Levels joined by /, such as builds/ui.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of messages, such as m12.")]
Patterns = Annotated[
    list[str],
    typer.Argument(metavar="PATTERN...", help="Topics; * is one level, ** at the end the rest."),
]
Payload = Annotated[
    str | None,
    typer.Option("--payload", "-p", metavar="JSON", help="A JSON value for a text; - for stdin."),
]
Type = Annotated[
    str | None, typer.Option("--type", "-t", help="What the content is: text, json, or a word of yours.")
]
Priority = Annotated[int | None, typer.Option("--priority", help="0 to 9, read first; 4 if not said.")]
Expires = Annotated[
    float | None, typer.Option("--expires", metavar="SECONDS", help="Not delivered any more after that.")
]
Key = Annotated[
    str | None,
    typer.Option("--key", help="A second message with this key is the first one again."),
]
Whose = Annotated[
    str | None,
    typer.Option("--agent", help="Of this agent; people only.", autocompletion=complete_agents),
]


def send(
    to: To,
    text: Text = None,
    payload: Payload = None,
    type: Type = None,
    priority: Priority = None,
    expires: Expires = None,
    key: Key = None,
    wait: Annotated[
        float | None, typer.Option("--wait", "-w", metavar="SECONDS", help="For room in a full mailbox.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Send a message to an agent, a person or everybody. It is durable when this returns.

    Inside an agent it comes from that agent, else from you.
    """
    mailing.send(
        to, text, payload=payload, type=type, priority=priority, expires=expires, key=key, wait=wait,
        as_json=as_json,
    )  # fmt: skip


def ask(
    to: To,
    text: Text = None,
    payload: Payload = None,
    type: Type = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="How long the reply is waited for.")
    ] = 60.0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only what the reply says.")] = False,
    as_json: Json = False,
) -> None:
    """Send a request and print its reply. The status is 1 if there is none in time."""
    mailing.ask(to, text, payload=payload, type=type, timeout=timeout, quiet=quiet, as_json=as_json)


def reply(
    request: Annotated[str, typer.Argument(metavar="ID", help="The request's id, such as m12.")],
    text: Text = None,
    payload: Payload = None,
    type: Type = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Answer a request, and acknowledge it."""
    mailing.reply(request, text, payload=payload, type=type, key=key, as_json=as_json)


def inbox(
    wait: Annotated[
        float | None, typer.Option("--wait", "-w", metavar="SECONDS", help="For the first message.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="So many at most.")] = 10,
    keep: Annotated[
        bool,
        typer.Option("--keep/--ack", help="Do not acknowledge them: they come again, until `agenttop ack`."),
    ] = False,
    peek: Annotated[
        str | None,
        typer.Option(
            "--peek",
            metavar="AGENT",
            help="Look into that agent's mailbox and take nothing; people only.",
            autocompletion=complete_agents,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what waits in your mailbox, and acknowledge it. Each message says whether a person sent it.

    Inside an agent it is that agent's mailbox, else yours. A message is acknowledged after it was written.
    """
    mailing.inbox(wait=wait, limit=limit, keep=keep, peek=peek, as_json=as_json)


def ack(ids: Ids, as_json: Json = False) -> None:
    """Acknowledge messages that `inbox --keep` printed. A second time does no harm."""
    mailing.ack(ids, as_json=as_json)


def publish(
    topic: Topic,
    text: Text = None,
    payload: Payload = None,
    type: Type = None,
    priority: Priority = None,
    expires: Expires = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Send a message to whoever subscribed to a topic."""
    mailing.publish(
        topic, text, payload=payload, type=type, priority=priority, expires=expires, key=key, as_json=as_json
    )


def subscribe(patterns: Patterns, agent: Whose = None, as_json: Json = False) -> None:
    """Get what is published to topics. Prints all that is subscribed to now."""
    mailing.subscribe(patterns, agent=agent, as_json=as_json)


def unsubscribe(patterns: Patterns, agent: Whose = None, as_json: Json = False) -> None:
    """End subscriptions. Prints those that are left."""
    mailing.subscribe(patterns, agent=agent, end=True, as_json=as_json)


topic = typer.Typer(help="Topics that agents publish and subscribe to.", no_args_is_help=True)


@topic.command("ls")
def topics(as_json: Json = False) -> None:
    """List topics with their subscribers."""
    found = call("bus.topics")
    if as_json:
        printing.json(found)
        return
    rows = [
        [
            one["topic"],
            f"{one['per_minute']:.1f}",
            str(len(one["subscribers"])),
            ", ".join(one["subscribers"]),
        ]
        for one in found
    ]
    printing.table(("TOPIC", "PER MIN", "COUNT", "SUBSCRIBERS"), rows, right=("PER MIN", "COUNT"))
