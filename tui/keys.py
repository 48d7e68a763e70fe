"""The key table: what every key is called, does and where. Bindings, footer, help, palette and the
user's ``[keys]`` are all made from it, so that they cannot disagree.

An id (``agent.kill``) is stable; its action on a screen is the method ``do_`` + the id with dots as
underscores (``do_agent_kill``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from agenttop.core.errors import UsageError

#: The groups of the help screen, in its order.
GROUPS = (
    "Look", "Act on the row or on tagged rows", "Act on the budget", "Act on memory", "Messages",
    "Tag", "Go", "Everything",
)  # fmt: skip
LOOK, ACT, BUDGET, MEMO, MAIL, TAG, GO, ALL = GROUPS

FLEET, EVENTS, DETAILS, BUDGETS = "fleet", "events", "details", "budgets"
MEMORY, BUS = "memory", "bus"
#: Panes that fill the screen below the tabs, and all of them.
PANES = (FLEET, EVENTS, BUDGETS, MEMORY, BUS)
EVERYWHERE = (FLEET, EVENTS, DETAILS, BUDGETS, MEMORY, BUS)


class Key(NamedTuple):
    """One thing a person can do, and the keys for it (Textual's key names, the first is shown)."""

    id: str
    keys: tuple[str, ...]
    label: str
    """Short, for the footer."""
    text: str
    """A phrase, for help and palette."""
    group: str
    panes: tuple[str, ...] = (FLEET,)
    footer: int = 0
    """Place in the footer, from the left; 0 is not shown there."""
    acts: bool = False
    """Whether it changes the fleet, so that it is taken away while no kernel answers."""


TABLE: tuple[Key, ...] = (
    Key("app.help", ("f1", "question_mark"), "Help", "keys, states, how to read a row", ALL,
        EVERYWHERE, footer=1),
    Key("app.setup", ("f2", "S"), "Setup", "setup: columns, colours", ALL, (FLEET,), footer=2),
    Key("look.search", ("f3", "slash"), "Search", "search", LOOK,
        (FLEET, EVENTS, DETAILS, MEMORY, BUS), footer=3),
    Key("look.filter", ("f4", "backslash"), "Filter", "filter", LOOK, (FLEET, EVENTS, BUS), footer=4),
    Key("look.tree", ("f5", "t"), "Tree", "tree or list", LOOK, footer=5),
    Key("look.sort", ("f6",), "SortBy", "sort by a column of your choice", LOOK, footer=6),
    Key("agent.nice_down", ("f7", "left_square_bracket"), "Nice -", "less nice: higher priority", ACT,
        (FLEET, DETAILS), footer=7, acts=True),
    Key("agent.nice_up", ("f8", "right_square_bracket"), "Nice +", "nicer: lower priority", ACT,
        (FLEET, DETAILS), footer=8, acts=True),
    Key("agent.kill", ("f9", "x"), "Kill", "signal or kill: shows what dies first", ACT,
        (FLEET, DETAILS), footer=9, acts=True),
    Key("app.quit", ("f10", "q", "ctrl+c"), "Quit", "leave; agents run on", ALL, PANES, footer=10),
    Key("agent.new", ("n",), "New", "new agent", GO, footer=11, acts=True),
    Key("agent.pause", ("p",), "Pause", "pause (freeze), resume", ACT,
        (FLEET, DETAILS), footer=12, acts=True),
    Key("agent.hold", ("h",), "Hold", "hold the next call, release", ACT,
        (FLEET, DETAILS), footer=13, acts=True),
    Key("agent.attach", ("a",), "Attach", "attach: get in front of its terminal", ACT,
        (FLEET, DETAILS), footer=15, acts=True),
    Key("agent.logs", ("l",), "Logs", "full log", GO, (FLEET, DETAILS), footer=15),
    Key("agent.diff", ("d",), "Diff", "diff: what it changed since it began", GO, (FLEET, DETAILS)),
    Key("tag.toggle", ("space",), "Tag", "tag, next row", TAG, footer=16),
    Key("look.needs", ("exclamation_mark",), "Need you", "only what needs you", LOOK, footer=14),
    Key("look.split", ("v",), "Split", "split pane", LOOK, footer=17),
    Key("app.command", ("colon",), "Command", "command", GO, PANES, footer=18),
    Key("agent.details", ("enter",), "Details", "details", LOOK, footer=19),
    Key("agent.freeze_all", ("ctrl+f",), "Freeze all", "kill switch: hold and freeze all, or undo it", ALL,
        EVERYWHERE, footer=20, acts=True),
    Key("look.sort_left", ("less_than_sign", "comma"), "Sort <", "sort by the column to the left", LOOK),
    Key("look.sort_right", ("greater_than_sign", "full_stop"), "Sort >", "sort by the column to the right",
        LOOK),
    Key("look.reverse", ("I",), "Reverse", "reverse the order", LOOK),
    Key("look.window", ("w",), "Window", "window of the sums: run, hour, today, total", LOOK,
        (FLEET, BUDGETS)),
    Key("look.inspector", ("i",), "Inspector", "the row's dropped columns below the table", LOOK),
    Key("look.freeze", ("Z",), "Stand still", "freeze the display; agents run on", LOOK,
        (FLEET, BUS)),
    Key("app.back", ("escape",), "Back", "back, close, clear", LOOK, EVERYWHERE),
    Key("agent.remove", ("delete",), "Remove", "remove ended agents; uncommitted work stays", ACT,
        (FLEET, DETAILS), acts=True),
    Key("agent.restart", ("r",), "Restart", "restart as a new run", ACT, (FLEET, DETAILS), acts=True),
    Key("agent.fork", ("F",), "Fork", "fork its conversation into a new agent", ACT,
        (FLEET, DETAILS), acts=True),
    Key("agent.answer", ("A",), "Answer", "answer what waits for you: held calls", ACT,
        (FLEET, EVENTS, DETAILS), footer=21, acts=True),
    Key("agent.budget", ("b",), "Budget", "budget of this agent: make one or change it", ACT,
        (FLEET, DETAILS), acts=True),
    Key("budget.answer", ("enter", "A"), "Answer", "answer its held calls; without any, change it",
        BUDGET, (BUDGETS,), acts=True),
    Key("budget.extend", ("plus",), "Extend", "extend: raise its limit", BUDGET, (BUDGETS,), acts=True),
    Key("budget.cut", ("minus",), "Cut", "cut: lower its limit", BUDGET, (BUDGETS,), acts=True),
    Key("budget.edit", ("e",), "Edit", "change its limit, window or action", BUDGET, (BUDGETS,), acts=True),
    Key("budget.new", ("n",), "New budget", "new budget", BUDGET, (BUDGETS,), acts=True),
    Key("budget.action", ("o",), "On breach", "on breach: ask, deny, freeze or kill", BUDGET,
        (BUDGETS,), acts=True),
    Key("budget.remove", ("x", "delete"), "Remove", "remove it; asks first", BUDGET, (BUDGETS,), acts=True),
    Key("budget.agents", ("a",), "Agents", "the fleet, only the agents it covers", BUDGET, (BUDGETS,)),
    Key("budget.view", ("tab",), "View", "burn-down, next to be stopped, providers", LOOK, (BUDGETS,)),
    Key("budget.sort", ("s",), "Sort", "order of the budgets: tree, next, used, spent", LOOK, (BUDGETS,)),
    Key("memory.open", ("enter",), "Open", "open: the whole text, who wrote it, from where", MEMO, (MEMORY,)),
    Key("memory.edit", ("e",), "Edit", "edit a block or note", MEMO, (MEMORY,), acts=True),
    Key("memory.new", ("n",), "New", "new block or note", MEMO, (MEMORY,), acts=True),
    Key("memory.promote", ("plus",), "Promote", "promote an entry or note into a block", MEMO, (MEMORY,),
        acts=True),
    Key("memory.evict", ("minus",), "Evict", "evict a block to recall", MEMO, (MEMORY,), acts=True),
    Key("memory.archive", ("a",), "Archive", "archive: keep a block or entry as a note", MEMO, (MEMORY,),
        acts=True),
    Key("memory.pin", ("p",), "Pin", "pin a block: it is never moved out; unpin", MEMO, (MEMORY,), acts=True),
    Key("memory.versions", ("v",), "Versions", "versions, and the diff between any two", MEMO, (MEMORY,)),
    Key("memory.forget", ("x", "delete"), "Forget", "forget for good; counts first, and asks", MEMO,
        (MEMORY,), acts=True),
    Key("memory.export", ("o",), "Export", "export to files", MEMO, (MEMORY,), acts=True),
    Key("memory.tier", ("tab", "right"), "Tier", "next tier, movements, search", LOOK, (MEMORY,)),
    Key("memory.tier_before", ("shift+tab", "left"), "Tier before", "tier before", LOOK, (MEMORY,)),
    Key("memory.agent_before", ("less_than_sign", "comma"), "Agent", "memory of the agent before", LOOK,
        (MEMORY,)),
    Key("memory.agent_next", ("greater_than_sign", "full_stop"), "Agent", "memory of the next agent", LOOK,
        (MEMORY,)),
    Key("memory.everybody", ("A",), "All agents", "search the memory of all agents, or of one", LOOK,
        (MEMORY,)),
    Key("agent.message", ("m",), "Message", "message: write to an agent as a person", ACT,
        (FLEET, DETAILS, BUS), acts=True),
    Key("bus.open", ("enter",), "Open", "open: all fields and the whole payload", MAIL, (BUS,)),
    Key("bus.revive", ("r",), "Redeliver", "redeliver: put a dead letter back", MAIL, (BUS,), acts=True),
    Key("bus.drop", ("x", "delete"), "Drop", "drop a dead letter; asks first", MAIL, (BUS,), acts=True),
    Key("bus.part", ("tab",), "Part", "next part of the pane", LOOK, (BUS,)),
    Key("bus.part_before", ("shift+tab",), "Part before", "part before", LOOK, (BUS,)),
    Key("bus.graph", ("g",), "Graph", "wait-for graph, and who talks to whom", LOOK, (BUS,)),
    Key("bus.dead", ("d",), "Dead", "dead letters, with the reason", LOOK, (BUS,)),
    Key("bus.host", ("o",), "Host", "the bus of another host", LOOK, (BUS,)),
    Key("bus.newest", ("home",), "First", "the newest message", GO, (BUS,)),
    Key("tag.children", ("c",), "Tag tree", "tag with children", TAG),
    Key("tag.none", ("U",), "Untag", "untag all", TAG),
    Key("pane.1", ("1",), "Fleet", "fleet", GO, PANES),
    Key("pane.2", ("2",), "Tasks", "tasks (a later version)", GO, PANES),
    Key("pane.3", ("3",), "Bus", "bus", GO, PANES),
    Key("pane.4", ("4",), "Memory", "memory", GO, PANES),
    Key("pane.5", ("5",), "Budgets", "budgets", GO, PANES),
    Key("pane.6", ("6",), "Events", "events", GO, PANES),
    Key("pane.7", ("7",), "Metrics", "metrics (a later version)", GO, PANES),
    Key("app.palette", ("ctrl+p",), "Palette", "command palette", GO, EVERYWHERE),
    Key("events.follow", ("f",), "Follow", "follow the newest", LOOK, (EVENTS, DETAILS, BUS),
        footer=12),
    Key("move.up", ("up", "k"), "Up", "row up", GO, PANES),
    Key("move.down", ("down", "j"), "Down", "row down", GO, PANES),
    Key("move.page_up", ("pageup", "ctrl+b"), "Page up", "page up", GO, PANES),
    Key("move.page_down", ("pagedown", "ctrl+d"), "Page down", "page down", GO, PANES),
    Key("move.home", ("home", "g"), "First", "first row", GO, (FLEET, EVENTS, BUDGETS, MEMORY)),
    Key("move.end", ("end", "G"), "Last", "last row", GO, PANES),
)  # fmt: skip

#: The footer of a pane that has an order of its own; as many as there is room for, from the left.
FOOTERS: dict[str, tuple[str, ...]] = {
    DETAILS: (
        "app.back", "agent.attach", "agent.pause", "agent.hold", "agent.restart", "look.search",
        "events.follow", "agent.kill", "app.help", "agent.diff", "agent.logs", "agent.nice_down",
        "agent.nice_up", "agent.budget", "agent.answer",
    ),
    BUDGETS: (
        "app.back", "budget.answer", "budget.extend", "budget.cut", "budget.edit", "budget.new",
        "budget.view", "budget.agents", "app.help", "budget.action", "budget.remove", "look.window",
        "budget.sort", "agent.freeze_all",
    ),
    BUS: (
        "app.back", "agent.message", "look.search", "look.filter", "bus.open", "bus.part", "bus.graph",
        "app.help", "bus.dead", "bus.revive", "bus.drop", "events.follow", "look.freeze", "agent.freeze_all",
    ),
    MEMORY: (
        "app.back", "memory.tier", "look.search", "memory.open", "app.help", "memory.edit", "memory.promote",
        "memory.evict", "memory.versions", "memory.agent_before", "memory.agent_next",
        "memory.pin", "memory.new", "memory.archive", "memory.forget", "memory.export", "agent.freeze_all",
    ),
}  # fmt: skip

BY_ID: dict[str, Key] = {key.id: key for key in TABLE}

_SHOWN = {
    "question_mark": "?", "slash": "/", "backslash": "\\", "left_square_bracket": "[",
    "right_square_bracket": "]", "exclamation_mark": "!", "colon": ":", "less_than_sign": "<",
    "greater_than_sign": ">", "comma": ",", "full_stop": ".", "space": "Space", "enter": "Enter",
    "escape": "Esc", "pageup": "PgUp", "pagedown": "PgDn", "home": "Home", "end": "End", "up": "Up",
    "plus": "+", "minus": "-",
    "down": "Down", "left": "Left", "right": "Right", "tab": "Tab", "backspace": "BkSp", "delete": "Del",
    "shift+tab": "S-Tab",
}  # fmt: skip
_TYPED = {shown: name for name, shown in _SHOWN.items()}


def shown(key: str) -> str:
    """A Textual key name as people write it: ``f1`` → ``F1``, ``ctrl+p`` → ``^P``."""
    if key in _SHOWN:
        return _SHOWN[key]
    if key.startswith("ctrl+"):
        return "^" + shown(key[5:]).upper()
    return key.upper() if len(key) > 1 and key[0] == "f" and key[1:].isdigit() else key


def named(text: str) -> str:
    """What a person wrote in ``[keys]`` as a Textual key name; the inverse of ``shown``."""
    if text in _TYPED:
        return _TYPED[text]
    if text.startswith("^") and len(text) > 1:
        return "ctrl+" + named(text[1:]).lower()
    return text.lower() if len(text) > 1 else text


class KeyTable:
    """The table with a person's own keys put in."""

    def __init__(self, overrides: Mapping[str, str | Sequence[str]] | None = None) -> None:
        """``overrides`` is the ``[keys]`` table: an id to one key or a list of keys.

        Raises:
            UsageError: An id that does not exist, or one key for two things in one pane.
        """
        own: dict[str, tuple[str, ...]] = {}
        for name, given in (overrides or {}).items():
            if name not in BY_ID:
                raise UsageError(f"[keys]: unknown id {name}", "", f"The ids are {', '.join(sorted(BY_ID))}")
            own[name] = tuple(named(key) for key in ((given,) if isinstance(given, str) else given))
        taken = {key for keys in own.values() for key in keys}
        self.keys: tuple[Key, ...] = tuple(
            key._replace(keys=own[key.id] if key.id in own else tuple(k for k in key.keys if k not in taken))
            for key in TABLE
        )
        self.by_id: dict[str, Key] = {key.id: key for key in self.keys}
        self._check(own)

    def _check(self, own: Mapping[str, tuple[str, ...]]) -> None:
        seen: dict[tuple[str, str], str] = {}
        for name, keys in own.items():
            for key in keys:
                for pane in self.by_id[name].panes:
                    other = seen.setdefault((pane, key), name)
                    if other != name:
                        raise UsageError(f"[keys]: {shown(key)} is given to both {other} and {name}")

    def pane(self, pane: str) -> list[Key]:
        """What can be done in ``pane``, in the table's order."""
        return [key for key in self.keys if pane in key.panes]

    def lookup(self, pane: str) -> dict[str, Key]:
        """Key name → entry, for one pane."""
        return {name: key for key in self.pane(pane) for name in key.keys}

    def footer(self, pane: str, *, acting: bool = True) -> list[Key]:
        """The footer's entries in order; ``acting=False`` leaves out what needs a kernel."""
        if pane in FOOTERS:
            keys = [self.by_id[name] for name in FOOTERS[pane]]
        else:
            keys = sorted((key for key in self.pane(pane) if key.footer), key=lambda key: key.footer)
        return [key for key in keys if key.keys and (acting or not key.acts)]

    def help(self) -> list[tuple[str, list[Key]]]:
        """The groups with their entries, for the help screen."""
        return [(group, [key for key in self.keys if key.group == group]) for group in GROUPS]


def labels(keys: Iterable[str]) -> str:
    """Several keys as help shows them: ``F3 /``."""
    return " ".join(shown(key) for key in keys)
