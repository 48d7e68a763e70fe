"""``agenttop run``: start one agent."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agenttop.core.errors import AgentTopError, UsageError

from . import printing
from .kernel_call import call, checked
from .options import Json
from .surroundings import around, elsewhere, environment

if TYPE_CHECKING:
    from agenttop.core.api import AgentInfo, RunRequest
    from agenttop.core.client import KernelClient

Text = str | None
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


def run(
    command: Annotated[
        list[str] | None, typer.Argument(help="What to run, after --.", metavar="-- COMMAND...")
    ] = None,
    name: Annotated[Text, typer.Option("--name", "-n", help="Unique; made up if not given.")] = None,
    template: Annotated[Text, typer.Option("--template", help="Such as claude.")] = None,
    prompt: Annotated[Text, typer.Option("--prompt", "-p", help="What the agent is told first.")] = None,
    model: Annotated[Text, typer.Option("--model", help="The model it asks for.")] = None,
    backend: Annotated[
        Text, typer.Option("--backend", help="Where it runs: subprocess, terminal, docker.")
    ] = None,
    image: Annotated[Text, typer.Option("--image", help="Container image (docker).")] = None,
    cwd: Annotated[
        Text,
        typer.Option("--cwd", help="Its working folder; default: here, with --host the home folder there."),
    ] = None,
    worktree: Annotated[
        bool, typer.Option("--worktree", "-w", help="In a git worktree and branch of its own.")
    ] = False,
    branch: Annotated[Text, typer.Option("--branch", help="The worktree's; default: agenttop/NAME.")] = None,
    base: Annotated[
        Text, typer.Option("--base", help="What the branch begins at; default: what is checked out.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", "-e", help="K=V, or K to pass the value it has here.")
    ] = None,
    env_file: Annotated[list[Path] | None, typer.Option("--env-file", help="Lines of K=V.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="KEY=VALUE or KEY.")] = None,
    parent: Annotated[
        Text, typer.Option("--parent", help="Default: the agent this is run by, if one does.")
    ] = None,
    nice: Annotated[int | None, typer.Option("--nice", help="-20 to 19.")] = None,
    queue: Annotated[
        Text, typer.Option("--queue", help="interactive (default), or batch: goes when nobody else waits.")
    ] = None,
    budget: Annotated[
        Text, typer.Option("--budget", help="For it and its children: '$5/day', '2M tokens/hour deny'.")
    ] = None,
    provider: Annotated[
        list[str] | None, typer.Option("--provider", help="The only provider it may use; several times.")
    ] = None,
    may_ask: Annotated[
        list[str] | None, typer.Option("--may-ask", help="The only models it may ask for, such as 'gpt-*'.")
    ] = None,
    restart: Annotated[Text, typer.Option("--restart", help="never, on-failure or always.")] = None,
    max_restarts: Annotated[
        int | None, typer.Option("--max-restarts", help="Failures in a row; then give up.")
    ] = None,
    start_seconds: Annotated[
        Text, typer.Option("--start-seconds", help="A run that lives so long has started.")
    ] = None,
    backoff: Annotated[
        Text, typer.Option("--backoff", help="Wait before the first restart; doubles.")
    ] = None,
    memory: Annotated[Text, typer.Option("--memory", "-m", help="Limit of the tree, such as 512M.")] = None,
    cpus: Annotated[float | None, typer.Option("--cpus", help="Limit of the tree, such as 1.5.")] = None,
    pids: Annotated[int | None, typer.Option("--pids", help="Limit of the tree.")] = None,
    network: Annotated[Text, typer.Option("--network", help="gateway, open or none (docker).")] = None,
    user: Annotated[Text, typer.Option("--user", "-u", help="User inside the container.")] = None,
    mount: Annotated[list[str] | None, typer.Option("--mount", help="SOURCE:TARGET[:rw] (docker).")] = None,
    writable: Annotated[bool, typer.Option("--writable", help="Let the container write its root.")] = False,
    stdin: Annotated[
        bool,
        typer.Option(
            "--stdin", "--interactive", "-i", help="Give it a stdin; with -f, this one if it is no terminal."
        ),
    ] = False,
    tty: Annotated[
        bool,
        typer.Option("--tty", "-t", help="In a terminal, as --backend terminal; -it also attaches to it."),
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="With -it: do not attach.")] = False,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Run it in bubblewrap (subprocess).")] = False,
    pass_key: Annotated[
        list[str] | None, typer.Option("--pass-key", help="A provider key's variable to hand over.")
    ] = None,
    permissions: Annotated[
        Text,
        typer.Option(
            "--permissions", help="ask, or auto: all its tools, unasked. Default: auto, in a terminal ask."
        ),
    ] = None,
    share_login: Annotated[
        bool, typer.Option("--share-login", help="Lend it your own login of the template's program.")
    ] = False,
    mcp: Annotated[
        bool | None,
        typer.Option("--mcp/--no-mcp", help="Give it mail and memory as MCP tools. Default: where it can."),
    ] = None,
    mail: Annotated[
        Text,
        typer.Option(
            "--mail",
            help="read: it looks for its mail itself; turn: it is told at its next turn; wake: a message"
            " begins that turn; none. Default: by template.",
        ),
    ] = None,
    block: Annotated[
        list[str] | None,
        typer.Option("--block", help="NAME=TEXT or NAME=@FILE to begin its working memory with."),
    ] = None,
    grace: Annotated[Text, typer.Option("--grace", help="Time between TERM and KILL, such as 10s.")] = None,
    freeze_after: Annotated[
        Text, typer.Option("--freeze-after", help="Freeze it when idle for so long, such as 30m; never.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end; exit with its status.")] = False,
    attach: Annotated[
        bool,
        typer.Option(
            "--attach",
            "-f",
            help="Follow its output to the end, or attach to its terminal; exit with its status.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Start an agent; everything after -- is its command. Prints its id and name.

    To talk to one: agenttop run -it --template claude. The detach key leads back, and it runs on.
    """
    from agenttop.core.api import RunRequest

    backend = _in_terminal(backend) if tty else backend
    attach = (attach or (tty and stdin)) and not detach
    person = attach and backend == "terminal"
    if person:
        from .terminals import able_to_attach

        able_to_attach()  # before there is an agent
    fields = {
        "name": name or proposal(template, command),
        "template": template,
        "prompt": prompt,
        "model": model,
        "backend": backend,
        "image": image,
        "command": command or None,
        "cwd": _folder(cwd, backend),
        "worktree": worktree or None,
        "branch": branch,
        "base": base,
        "env": {**_files(env_file), **_variables(env)},
        "labels": dict(_label(text) for text in label or ()),
        "parent": parent or around(),
        "nice": nice,
        "queue": queue,
        "budget": budget,
        "providers": provider,
        "models": may_ask,
        "restart": _given(
            policy=restart, max_restarts=max_restarts, start_seconds=start_seconds, backoff=backoff
        ),
        "limits": _given(memory=memory, cpus=cpus, pids=pids),
        "network": network,
        "user": user,
        "mounts": [_mount(text) for text in mount or ()],
        "read_only": False if writable else None,
        "stdin": stdin or None,
        "sandbox": sandbox or None,
        "pass_keys": pass_key,
        "permissions": permissions,
        "share_login": share_login or None,
        "mcp": mcp,
        "mail": mail,
        "blocks": dict(_block(text) for text in block or ()),
        "stop_grace": grace,
        "idle": _given(freeze_after=freeze_after),
    }
    request = checked(RunRequest, spec=_given(**fields), name_given=name is not None, environ=environment())
    if person:
        from .terminals import enter

        info = call(lambda client: client.run(request))
        printing.notes(info.notes)
        raise typer.Exit(enter(info.id))
    raise typer.Exit(call(lambda client: _start(client, request, wait=wait, attach=attach, as_json=as_json)))


def _in_terminal(backend: str | None) -> str:
    if backend not in (None, "terminal"):
        raise UsageError(
            f"--tty and --backend {backend} do not go together",
            "Terminals are of the backend terminal, on this machine",
            "Leave one of them out",
        )
    return "terminal"


async def _start(
    client: KernelClient, request: RunRequest, *, wait: bool, attach: bool, as_json: bool
) -> int:
    info = await client.run(request)
    printing.notes(info.notes)
    if info.permissions == "auto" and request.spec.permissions is None:
        printing.note(f"{info.name} uses its tools without asking; --permissions ask allows it less")
    if attach:
        return await _attach(client, info, send=request.spec.stdin and not sys.stdin.isatty())
    if as_json:
        printing.json(info.model_dump())
    else:
        printing.line(f"{info.id} {info.name}")
    sys.stdout.flush()
    if wait:
        return await _end(client, info)
    return 0


async def _end(client: KernelClient, info: AgentInfo) -> int:
    from .look import exit_status

    (ended,) = await client.wait([info.id])
    return exit_status(ended)


async def _attach(client: KernelClient, info: AgentInfo, *, send: bool) -> int:
    """Pass output (and stdin) through until the agent has ended; Ctrl-C lets it run on."""
    import anyio

    from .logs import follow

    try:
        async with anyio.create_task_group() as tasks:
            if send:
                tasks.start_soon(_pump, client, info)
            await follow(client, info.id, _writer())
            tasks.cancel_scope.cancel()
    except anyio.get_cancelled_exc_class():
        printing.note(f"{info.name} ({info.id}) runs on")
        raise
    return await _end(client, info)


def _writer() -> Any:
    from .logs import Writer

    return Writer()


async def _pump(client: KernelClient, info: AgentInfo) -> None:
    """Our stdin to the agent's, until it ends; an agent that reads no more is told once."""
    import anyio.to_thread

    read: Callable[[int, int], bytes] = os.read
    try:
        while data := await anyio.to_thread.run_sync(read, 0, 65_536, abandon_on_cancel=True):
            await client.write(info.id, data)
        await client.write(info.id, None)
    except AgentTopError as error:
        printing.note(str(error))


def proposal(template: str | None, command: list[str] | None) -> str:
    """A name where none was given: the template's, or the program's."""
    program = template or Path((command or ["agent"])[0]).name
    name = _NOT_IN_NAMES.sub("-", program).strip("-._")[:50]
    return name or "agent"


def _given(**fields: Any) -> dict[str, Any]:
    """Only what was said; the rest is the spec's, the template's or the configuration's to say."""
    return {name: value for name, value in fields.items() if value not in (None, {}, [])}


def _folder(cwd: str | None, backend: str | None) -> str | None:
    if elsewhere():
        return cwd
    if cwd is None:
        return None if backend == "docker" else os.getcwd()
    return cwd if backend == "docker" else os.path.abspath(os.path.expanduser(cwd))


def _variables(given: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
        else:
            raise UsageError(
                f"--env {name} has no value", "The variable is not set here", "Write --env NAME=VALUE"
            )
    return found


def _files(paths: list[Path] | None) -> dict[str, str]:
    """``K=V`` lines; empty ones and those that begin with ``#`` do not count."""
    found: dict[str, str] = {}
    for path in paths or ():
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read {path}", str(getattr(error, "strerror", "") or error)) from error
        for number, text in enumerate(lines, 1):
            if text.strip() and not text.lstrip().startswith("#"):
                name, equals, value = text.partition("=")
                if not equals:
                    raise UsageError(
                        f"{path}, line {number}: {name.strip()!r} has no value", hint="Write NAME=VALUE"
                    )
                found[name.strip()] = value
    return found


def _label(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def _block(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{text} is not a block", hint="Write NAME=TEXT, or NAME=@FILE")
    if not value.startswith("@"):
        return name, value
    try:
        return name, Path(value[1:]).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the block {name} cannot be read from {value[1:]}", str(error)) from error


def _mount(text: str) -> dict[str, Any]:
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not target or mode not in ("", "ro", "rw"):
        raise UsageError(f"{text} is not a mount", hint="Write SOURCE:TARGET, or SOURCE:TARGET:rw")
    return {
        "source": source if elsewhere() else os.path.abspath(os.path.expanduser(source)),
        "target": target,
        "read_only": mode != "rw",
    }
