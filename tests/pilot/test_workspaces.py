"""The screen about agents' folders: the section in the details, the diff, the question before a removal."""

from __future__ import annotations

from typing import Any

import pytest

from agenttop.core.api import Outcome, RemoveRequest, WorkspaceInfo
from agenttop.tui.screens.diff import DiffScreen, patch_rows
from agenttop.tui.screens.launch import command_line, request
from agenttop.tui.screens.remove import RemoveScreen
from agenttop.tui.widgets.workspace_page import page, section

from .stage import StageClient, shows, stage, until

pytestmark = pytest.mark.anyio


class Removing(StageClient):
    """Remembers what it was asked to remove."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[RemoveRequest] = []
        self.lost = ["changed  src/cart.py", "new  notes.md"]

    async def workspace(self, ref: str, detail: Any = "") -> WorkspaceInfo:
        found = await super().workspace(ref, detail)
        return found.model_copy(update={"losses": self.lost if detail == "losses" else []})

    async def remove(self, request: RemoveRequest) -> list[Outcome]:
        self.asked.append(request)
        stays = (
            "removed, its worktree stays in /home/ana/a/folder/with/a/long/name, which is not cut anywhere"
        )
        kept = bool(self.lost) and not request.discard
        return [
            Outcome(ref=ref, id=ref, name=ref, done=stays if kept else "removed, its worktree too",
                    notes=["to get at the work: cd there"] if kept else [])
            for ref in request.refs
        ]  # fmt: skip


def said(rows: list[Any]) -> str:
    return "\n".join("".join(text for text, _ in row) for row in rows)


def test_a_folder_says_what_git_says_and_who_works_there_too() -> None:
    info = WorkspaceInfo(folder="/p", repository="/p", branch="main", files=1, insertions=2_000, deletions=0,
                         commits=1, uncommitted=0, shared_with=["web", "docs"])  # fmt: skip
    text = said(section(info, 60))
    assert "main" in text
    assert "+2,000 -0 in 1 file   1 commit" in text
    assert "not committed" not in text
    assert "web and docs work here, too" in text
    nowhere = said(page(WorkspaceInfo(folder="/p"), 60))
    assert "in no git repository" in nowhere
    assert "shows the diff" not in nowhere
    slow = WorkspaceInfo(folder="/p", repository="/p", problem="git took too long. It was ended after 5 s")
    assert "not known: git took too long" in said(section(slow, 60))
    assert said(section(None, 20)).endswith(" -")


def test_what_agents_write_into_files_cannot_reach_the_terminal() -> None:
    rows = patch_rows("diff --git a/x b/x\n+\x1b[31mred\x1b]52;c;evil\x07\n\tfour\n")
    assert len(rows) == 3
    assert "\x1b" not in said(rows)
    assert rows[1][0][1] == "good"


async def test_d_shows_what_an_agent_changed_and_goes_from_file_to_file() -> None:
    async with stage(size=(100, 12), press=("down", "d")) as (app, pilot):
        shown = await shows(pilot, "Diff of api", "+    return sum(item.price", "+214 -38 in 9 files")
        assert "+ask ana" not in shown
        await pilot.press("n")
        await shows(pilot, "ask ana about the tax")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, DiffScreen))


async def test_the_files_of_an_agent_have_a_page_in_its_details() -> None:
    async with stage(size=(80, 24), press=("down", "enter")) as (_, pilot):
        await pilot.press("6")
        await shows(pilot, "/home/ana/src/shop", "in a worktree of its own", "shared with", "shows the diff")


async def ended_row(app: Any, pilot: Any) -> str:
    """Put the cursor on an agent that has ended."""
    row = next(row for row in app.model.rows.values() if row.state in ("error", "terminated"))
    app.model.cursor = row.id
    assert app.model.current is not None
    return str(row.id)


async def test_before_a_removal_what_would_be_lost_is_listed_and_kept_unless_told() -> None:
    client = Removing()
    async with stage(client, (100, 30)) as (app, pilot):
        agent = await ended_row(app, pilot)
        await pilot.press("delete")
        await shows(pilot, "nowhere else", "changed  src/cart.py", "new  notes.md", "deletes it for good")
        await pilot.press("enter")
        await until(pilot, lambda: bool(client.asked))
        assert client.asked == [RemoveRequest(refs=[agent], discard=False)]
        await shows(pilot, "its worktree stays in", "which is not cut", "anywhere", "cd there", "Close")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, RemoveScreen))


async def test_the_work_is_deleted_with_a_key_of_its_own() -> None:
    client = Removing()
    async with stage(client, (100, 30)) as (app, pilot):
        agent = await ended_row(app, pilot)
        await pilot.press("delete")
        await shows(pilot, "nowhere else")
        await pilot.press("D")
        await until(pilot, lambda: bool(client.asked))
        assert client.asked == [RemoveRequest(refs=[agent], discard=True)]
        await shows(pilot, "removed, its worktree too")
        await until(pilot, lambda: not isinstance(app.screen, RemoveScreen))


async def test_where_nothing_would_be_lost_there_is_nothing_to_discard() -> None:
    client = Removing()
    client.lost = []
    async with stage(client, (100, 30)) as (app, pilot):
        await ended_row(app, pilot)
        await pilot.press("delete")
        shown = await shows(pilot, "Remove", "its output go")
        assert "nowhere else" not in shown
        await pilot.press("D")
        await pilot.pause()
        assert isinstance(app.screen, RemoveScreen)
        assert client.asked == []
        await pilot.press("escape")


async def test_an_agent_that_has_not_ended_is_not_removed() -> None:
    client = Removing()
    async with stage(client, (100, 30), press=("down", "delete")) as (_, pilot):
        await shows(pilot, "Nothing here has ended")
        await pilot.press("enter")
        await pilot.pause()
        assert client.asked == []


async def test_who_begins_to_share_a_folder_is_told_in_a_toast_once() -> None:
    client = Removing()
    before = await client.last_events(1)
    shared = before[0]._replace(
        seq=10**6, kind="FolderShared", name="ui", text="works with api in one folder: /p"
    )
    async with stage(client, (120, 34)) as (app, pilot):
        await shows(pilot, "tool shell: npm test")
        assert not any("one folder" in toast.title + toast.text for toast in app.toasts)
        app.shared.told([shared])
        await shows(pilot, "works with api in one folder: /p")
        app.clear_toasts()
        app.shared.told([shared])
        assert app.toasts == []


def test_the_launch_dialog_asks_for_a_worktree() -> None:
    values = {"template": "custom", "command": "make it", "name": "w", "cwd": "/p", "worktree": "yes"}
    assert request(values, {}, []).spec.worktree
    assert "--worktree" in command_line(values)
    assert "--worktree" not in command_line({**values, "worktree": "no"})
