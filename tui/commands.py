"""What can be typed after ``:``: verbs, what they take, and what they do.

The same list feeds completion, the palette's rows and the reasons why something cannot be done now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agenttop.core.api import WINDOWS, Row
from agenttop.core.errors import AmbiguousAgent, NoSuchAgent, UsageError
from agenttop.themes import NAMES

from .columns import BY_ID, COLUMNS
from .format import clean
from .model import ENDED, asks

if TYPE_CHECKING:
    from .app import AgentTopApp


class Command(NamedTuple):
    """One verb. ``takes`` names the kinds of its words: ``agents``, ``number``, ``theme``, ``text``, …"""

    name: str
    takes: tuple[str, ...]
    text: str
    acts: bool = False


COMMANDS: tuple[Command, ...] = (
    Command("pause", ("agents",), "freeze: stop its processes in RAM, verified", True),
    Command("resume", ("agents",), "undo freeze and hold", True),
    Command("hold", ("agents",), "keep its next model call", True),
    Command("kill", ("agents",), "shows what would end, and asks", True),
    Command("restart", ("agents",), "a new run", True),
    Command("attach", ("agent",), "get in front of its terminal; the detach key comes back", True),
    Command("send", ("agent", "text"), "type a line for it, as: send api go on", True),
    Command("message", ("agent",), "write to it over the bus, as a person", True),
    Command("fork", ("agent", "text"), "a new agent in its conversation, as: fork api try it without", True),
    Command("nice", ("number", "agents"), "set the priority: -20 first … 19 last", True),
    Command("approve", ("agents",), "let one held call through", True),
    Command("deny", ("agents",), "refuse its held calls", True),
    Command("budget", ("agent", "limit"), "its budget, as: budget api $5/day ask", True),
    Command("calls", ("agent",), "its model calls one by one"),
    Command("memory", ("agent",), "its working, recall and archival memory"),
    Command("bus", (), "messages between agents: trace, mailboxes, topics, who waits"),
    Command("budgets", (), "every budget, and who is stopped next"),
    Command("providers", (), "breakers, limits and what is left, who waits"),
    Command("halt", (), "kill switch: hold every call, freeze every agent; asks", True),
    Command("unhalt", (), "undo the kill switch", True),
    Command("details", ("agent",), "everything about an agent"),
    Command("logs", ("agent",), "its whole output"),
    Command("diff", ("agent",), "what it changed since it began"),
    Command("rm", ("agents",), "remove ended agents; asks, and uncommitted work stays", True),
    Command("filter", ("text",), "show only rows with these words"),
    Command("search", ("text",), "go to the next row with these words"),
    Command("sort", ("column",), "order the table by a column"),
    Command("window", ("window",), "what IN, OUT and $ cover"),
    Command("theme", ("theme",), "colours"),
    Command("reconnect", (), "call hosts that are away now, not later"),
    Command("new", (), "launch an agent", True),
    Command("setup", (), "columns, order, colours"),
    Command("help", (), "keys, states, how to read a row"),
    Command("quit", (), "leave; agents run on"),
)
BY_NAME = {command.name: command for command in COMMANDS}


def find(app: AgentTopApp, ref: str) -> Row:
    """The agent of a name, an id, or the beginning of one id.

    Raises:
        NoSuchAgent: There is none on the table.
        AmbiguousAgent: There are several.
    """
    rows = list(app.model.rows.values())
    exact = [row for row in rows if ref in (row.id, f"{row.host}/{row.name}")]
    exact = exact or [row for row in rows if ref == row.name]
    if len({row.host for row in exact}) > 1:
        said = " or ".join(sorted(clean(f"{row.host}/{row.name}") for row in exact))
        raise AmbiguousAgent(f"{clean(ref)} is on several hosts", "", f"Say {said}")
    if exact:
        return exact[0]
    begun = [row for row in rows if row.id.startswith(ref) or row.id.rpartition("/")[2].startswith(ref)]
    if len(begun) == 1:
        return begun[0]
    if begun:
        names = ", ".join(sorted(clean(row.name) for row in begun))
        raise AmbiguousAgent(f"{clean(ref)} is not one agent", f"It fits {names}", "Type more of the id")
    raise NoSuchAgent(f"no agent {clean(ref)}", "", "Tab completes names")


def impossible(app: AgentTopApp, verb: str, row: Row | None) -> str:
    """Why a verb cannot be done to an agent now; empty if it can."""
    if BY_NAME[verb].acts and app.lost:
        return "no kernel answers"
    if row is None:
        return ""
    if verb in ("pause", "hold", "nice", "kill") and row.state in ENDED:
        return "it has no process"
    if verb in ("pause", "resume", "nice", "kill") and row.observed and row.pids is None:
        return "a subagent: it has no process of its own"
    if verb == "rm" and row.observed:
        return "observed: it goes when it ends"
    if verb == "rm" and row.state not in ENDED:
        return "it has not ended"
    if verb == "hold" and row.observed:
        return "observed: its calls do not pass the gateway"
    if verb == "logs" and row.observed:
        return "observed: its output is not kept here"
    if verb == "attach":
        return app.attaching.impossible(row)
    if verb == "send" and row.observed:
        return "observed: agenttop did not start it"
    if verb == "send" and row.state in ENDED:
        return "it has no process"
    if verb == "message" and row.observed:
        return "observed: it has no mailbox here"
    if verb == "fork" and row.observed:
        return "observed: agenttop did not start it"
    if verb == "restart" and row.observed:
        return "observed: agenttop did not start it"
    if verb == "pause" and row.pause:
        return "it is paused already"
    if verb in ("approve", "deny") and not asks(row):
        return "no call of it waits for you"
    if verb == "budget" and row.observed:
        return "observed: its calls do not pass the gateway"
    if verb == "resume" and not row.pause:
        return "it is not paused"
    return ""


def run(app: AgentTopApp, line: str) -> None:
    """Do what was typed; without names it is done to the tagged rows or the cursor's.

    Raises:
        AgentTopError: It cannot be meant, or cannot be done now.
    """
    verb, *words = line.split()
    command = BY_NAME.get(verb)
    if command is None:
        raise UsageError(f"no command {clean(verb)}", "", f"There are {', '.join(BY_NAME)}")
    if command.acts and app.lost:
        raise UsageError(f"{verb} was not done", "No kernel answers", "Try again when it is back")
    if "agents" in command.takes or "agent" in command.takes:
        _on_agents(app, verb, words, line)
    else:
        _on_screen(app, verb, words, line.split(None, 1)[1:])


def _on_agents(app: AgentTopApp, verb: str, words: Sequence[str], line: str) -> None:
    number, text = 0, ""
    if verb == "nice":
        if not words:
            raise UsageError("nice needs a number", "", "-20 is first, 19 is last")
        number, words = _number(words[0]), words[1:]
    given: Mapping[str, str] = {}
    if verb == "budget":
        given, words = _limit(" ".join(words[1:])), words[:1]
    if verb == "send":
        if len(words) < 2:
            raise UsageError("nothing to send", "", "As: send api go on")
        words, text = words[:1], line.strip().split(None, 2)[2]
    if verb == "fork":
        words, text = words[:1], " ".join(line.strip().split(None, 2)[2:])
    rows = [find(app, word) for word in words] or _targets(app, verb)
    if not rows:
        raise UsageError(f"{verb} was not done", "No agent was named, and none is under the cursor")
    if len(rows) == 1 and (why := impossible(app, verb, rows[0])):
        raise UsageError(f"{verb} {clean(rows[0].name)} was not done", why[0].upper() + why[1:])
    verbs: dict[str, Callable[[], None]] = {
        "pause": lambda: app.verbs.pause(rows),
        "resume": lambda: app.verbs.resume(rows),
        "hold": lambda: app.verbs.hold(rows),
        "restart": lambda: app.verbs.restart(rows),
        "attach": lambda: app.attaching.attach(rows[0]),
        "send": lambda: app.verbs.send(rows[0], text),
        "message": lambda: app.open_message(rows[0]),
        "fork": lambda: app.fork(rows[0], text),
        "approve": lambda: app.verbs.answer(rows, "once"),
        "deny": lambda: app.verbs.answer(rows, "deny"),
        "budget": lambda: app.open_budget(rows[0], given),
        "calls": lambda: app.open_details(rows[0].id, tab="Calls"),
        "memory": lambda: app.open_memory(rows[0].id),
        "kill": lambda: app.open_kill([row.id for row in rows]),
        "nice": lambda: app.verbs.set_nice(rows, number),
        "details": lambda: app.open_details(rows[0].id),
        "logs": lambda: app.open_details(rows[0].id, zoom=True),
        "diff": lambda: app.open_diff(rows[0]),
        "rm": lambda: app.open_remove(rows),
    }
    verbs[verb]()


def _targets(app: AgentTopApp, verb: str) -> list[Row]:
    """The tagged rows, else the cursor's; of a verb for one agent the cursor's only."""
    if verb != "attach":
        return app.model.targets()
    return [app.model.current] if app.model.current is not None else []


def _limit(text: str) -> dict[str, str]:
    """``$5/day ask`` as the fields of the budget form; nothing for nothing."""
    if not text:
        return {}
    from agenttop.core.budget.short import parse_short

    try:
        found = parse_short(text)
    except ValueError as error:
        said = f"{clean(text)} is not a limit"
        raise UsageError("This budget cannot be", said, "As $5/day, 2M tokens/hour deny") from error
    assert isinstance(found, dict)
    return {name: f"{value:f}" if name == "usd" else str(value) for name, value in found.items()}


def _number(word: str) -> int:
    try:
        number = int(word)
    except ValueError as error:
        raise UsageError(
            f"nice {clean(word)} cannot be", "It is not a number", "-20 is first, 19 is last"
        ) from error
    if not -20 <= number <= 19:
        raise UsageError(f"nice {number} cannot be", "Nice goes from -20 to 19")
    return number


def _on_screen(app: AgentTopApp, verb: str, words: Sequence[str], rest: Sequence[str]) -> None:
    text = rest[0].strip() if rest else ""
    match verb:
        case "filter":
            app.model.filter = text
            app.model.reorder()
            app.fleet.updated()
        case "search":
            app.model.search = text
            if text and not app.model.find(text, step=1):
                raise UsageError(f"nothing found for {clean(text)}")
            app.fleet.updated()
        case "sort":
            app.fleet.sort_by(_column(words))
        case "window":
            app.rewatch(_one_of("window", words, WINDOWS))
        case "theme":
            name = _one_of("theme", words, NAMES)
            app.use_theme(name)
            app.change(theme=name)
        case _:
            screens: dict[str, Callable[[], None]] = {
                "bus": app.do_pane_3, "budgets": app.do_pane_5, "providers": app.open_providers,
                "halt": lambda: _halt(app, undo=False), "unhalt": lambda: _halt(app, undo=True),
                "reconnect": app.try_now, "new": app.do_agent_new, "setup": app.do_app_setup,
                "help": app.do_app_help,
            }  # fmt: skip
            screens.get(verb, app.do_app_quit)()


def _halt(app: AgentTopApp, *, undo: bool) -> None:
    if undo and app.model.header is not None and not app.model.header.halted:
        raise UsageError("Nothing to undo", "The kill switch is off", "Use it with halt")
    app.open_halt(undo=undo)


def _one_of(what: str, words: Sequence[str], known: Sequence[str]) -> str:
    if len(words) == 1 and words[0] in known:
        return words[0]
    raise UsageError(f"no {what} {clean(' '.join(words))}".rstrip(), "", f"There are {', '.join(known)}")


def _column(words: Sequence[str]) -> str:
    word = " ".join(words).lower()
    for column in COLUMNS:
        if column.sort is not None and word in (column.id, column.title.lower()):
            return column.id
    return _one_of("column", words, [name for name in BY_ID if BY_ID[name].sort is not None])


def candidates(app: AgentTopApp, line: str) -> list[str]:
    """What the last word of ``line`` could become."""
    words = line.split(" ")
    if len(words) == 1:
        return [name for name in BY_NAME if name.startswith(words[0])]
    command = BY_NAME.get(words[0])
    if command is None or not command.takes:
        return []
    kind = command.takes[min(len(words) - 2, len(command.takes) - 1)]
    known: Sequence[str] = ()
    if kind in ("agents", "agent"):
        several = app.model.header is not None and len(app.model.header.hosts) > 1
        known = sorted(f"{row.host}/{row.name}" if several else row.name for row in app.model.rows.values())
    elif kind == "theme":
        known = NAMES
    elif kind == "window":
        known = WINDOWS
    elif kind == "column":
        known = [name for name in BY_ID if BY_ID[name].sort is not None]
    return [name for name in known if name.startswith(words[-1])]


def complete(app: AgentTopApp, line: str) -> str:
    """``line`` with its last word as long as all candidates agree; a blank after the only one."""
    found = candidates(app, line)
    if not found:
        return line
    head = line[: len(line) - len(line.split(" ")[-1])]
    common = found[0]
    for name in found[1:]:
        while not name.startswith(common):
            common = common[:-1]
    takes = len(found) == 1 and (line.count(" ") == 0 and BY_NAME[found[0]].takes)
    return head + common + (" " if takes else "")
