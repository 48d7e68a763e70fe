"""The doors to terminals, through every way to the kernel: attaching, typing, reading what was shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import anyio
import pytest

from agenttop.core.api import (
    HistoryInfo,
    PauseRequest,
    PressRequest,
    RunRequest,
    Snapshot,
    StopRequest,
    Target,
)
from agenttop.core.client import KernelClient
from agenttop.core.errors import BackendError, Conflict, NoSuchAgent, NoTerminal
from agenttop.core.paths import Paths

from ..support.outer import need_tmux
from .conftest import KernelMaker, reached, sh, until, until_state

pytestmark = [pytest.mark.anyio, pytest.mark.tmux]

ECHO = "echo hello there; while read line; do echo got $line; done"
#: Shows each of its reads. It begins late: a program is often busy when somebody types.
READS = """\
import os, sys, time, tty
tty.setraw(0)
print("ready", end="\\r\\n", flush=True)
time.sleep(0.5)
while data := os.read(0, 4096):
    print(repr(data), end="\\r\\n", flush=True)
"""
SECRET = "a-very-secret-word"


@pytest.fixture(autouse=True)
def _tmux() -> None:
    need_tmux()


@pytest.fixture(params=["local", "socket", "embedded"])
async def each(
    request: pytest.FixtureRequest, kernels: KernelMaker, paths: Paths
) -> AsyncIterator[KernelClient]:
    """The same kernel, reached in each way."""
    async with reached(request.param, kernels, paths) as client:
        yield client


def terminal(script: str, name: str = "hello", **spec: Any) -> RunRequest:
    return sh(script, name, backend="terminal", **spec)


async def shown(client: KernelClient, ref: str, text: str) -> HistoryInfo:
    """Wait until its terminal shows this."""

    async def look() -> HistoryInfo | None:
        found = await client.history(ref)
        return found if text in "\n".join(found.lines) else None

    return cast("HistoryInfo", await until(look, f"{ref} showing {text!r}", 45))


async def attachable(client: KernelClient) -> dict[str, bool]:
    """Name → whether its row says that a person can attach."""
    async with aclosing(cast("Any", client.watch())) as updates:
        async for update in updates:
            assert isinstance(update, Snapshot)
            return {row.name: row.attach for row in update.rows}
    raise AssertionError


async def bodies(client: KernelClient, kind: str = "") -> list[dict[str, Any]]:
    return [event.body async for event in client.events(kinds=[kind] if kind else [])]


async def test_the_way_in_is_a_command_and_the_key_that_leads_back(each: KernelClient) -> None:
    made = await each.run(terminal(ECHO))
    info = await each.attach("hello")
    assert (info.name, info.id, info.run, info.detach_key) == ("hello", made.id, 1, "Ctrl-\\")
    # Without a terminal of its own the command is refused by tmux, and not by anything before it.
    tried = await anyio.run_process(info.argv, check=False)
    assert b"not a terminal" in tried.stderr
    assert tried.returncode not in (0, info.left)
    (noted,) = await bodies(each, "TerminalAttached")
    assert (noted["agent"], noted["run"]) == (made.id, 1)
    assert noted["by"]


async def test_keys_are_pressed_and_the_text_is_read_back(each: KernelClient) -> None:
    await each.run(terminal(ECHO))
    await shown(each, "hello", "hello there")
    await each.press(PressRequest(ref="hello", keys=["one two", "Enter"]))
    found = await shown(each, "hello", "got one two")
    assert found.live
    assert "hello there" in found.lines
    assert (await each.history("hello", 0)).lines == found.lines


async def test_what_scrolled_away_is_kept(client: KernelClient) -> None:
    await client.run(terminal("seq 1 500; echo done; exec sleep 600"))
    await shown(client, "hello", "done")
    everything = (await client.history("hello", 1_000_000)).lines
    assert everything == [*map(str, range(1, 501)), "done"]
    some = (await client.history("hello", 10)).lines
    assert some == everything[-len(some) :]
    assert len(some) < 100


async def test_enter_comes_in_a_read_of_its_own_however_late_the_program_reads(client: KernelClient) -> None:
    request = terminal("")
    spec = request.spec.model_copy(update={"command": ["python3", "-c", READS]})
    await client.run(request.model_copy(update={"spec": spec}))
    await shown(client, "hello", "ready")
    await client.press(PressRequest(ref="hello", keys=["tell me", "Enter"]))
    found = await shown(client, "hello", r"b'\r'")
    assert r"b'tell me'" in found.lines
    await client.write("hello", b"again")
    await client.press(PressRequest(ref="hello", keys=["Enter"]))
    found = await shown(client, "hello", "b'again'")
    assert found.lines.count(r"b'again\r'") == 0


async def test_who_typed_is_in_the_journal_once_and_what_was_typed_never_is(client: KernelClient) -> None:
    made = await client.run(terminal("stty -echo; " + ECHO))
    await shown(client, "hello", "hello there")
    await client.press(PressRequest(ref="hello", keys=[SECRET, "Enter"]))
    await client.write("hello", SECRET.encode() + b"\n")
    await shown(client, "hello", f"got {SECRET}\ngot {SECRET}")
    (noted,) = await bodies(client, "TerminalTyped")
    assert {key: noted[key] for key in ("agent", "run")} == {"agent": made.id, "run": 1}
    assert SECRET not in str(await bodies(client))


async def test_an_agent_without_a_terminal_says_how_one_is_had(each: KernelClient) -> None:
    await each.run(sh("exec sleep 600"))
    for call in (
        lambda: each.attach("hello"),
        lambda: each.press(PressRequest(ref="hello", keys=["x"])),
        lambda: each.history("hello"),
    ):
        with pytest.raises(NoTerminal, match="has no terminal") as caught:
            await call()
        assert "agenttop run -t" in caught.value.hint
    with pytest.raises(NoSuchAgent):
        await each.attach("nobody")
    with pytest.raises(NoSuchAgent):
        await each.history("nobody")
    assert await bodies(each, "TerminalAttached") == []


async def test_a_run_that_has_ended_is_read_but_not_entered(each: KernelClient) -> None:
    await each.run(terminal("echo the last words; exit 3"))
    await each.wait(["hello"])
    found = await each.history("hello")
    assert found.lines == ["the last words"]
    assert not found.live
    for verb in (each.attach("hello"), each.press(PressRequest(ref="hello", keys=["x"]))):
        with pytest.raises(Conflict, match="has ended") as caught:
            await verb
        assert "agenttop history hello" in caught.value.hint
    with pytest.raises(Conflict):
        await each.write("hello", b"x")


async def test_between_two_runs_it_is_said_when_the_next_begins(client: KernelClient) -> None:
    await client.run(terminal("exit 3", restart={"policy": "always", "backoff": "60s"}))
    await until(lambda: client.agents(), "the agent")

    async def waits() -> bool:
        return (await client.inspect("hello")).info.state == "error"

    await until(waits, "the end of its first run", 45)
    with pytest.raises(Conflict, match="the next begins in"):
        await client.attach("hello")


async def test_a_frozen_agent_is_looked_at_but_not_entered_until_it_is_resumed(client: KernelClient) -> None:
    await client.run(terminal(ECHO))
    await shown(client, "hello", "hello there")
    (outcome,) = await client.pause(PauseRequest(refs=["hello"]))
    assert outcome.error is None
    for call in (
        lambda: client.attach("hello"),
        lambda: client.press(PressRequest(ref="hello", keys=["x"])),
        lambda: client.write("hello", b"x"),
    ):
        with pytest.raises(Conflict, match="frozen") as caught:
            await call()
        assert "agenttop resume hello" in caught.value.hint
    assert (await client.history("hello")).live
    await client.resume(Target(refs=["hello"]))
    await client.press(PressRequest(ref="hello", keys=["now", "Enter"]))
    found = await shown(client, "hello", "got now")
    assert "got xnow" not in found.lines
    assert (await client.attach("hello")).argv


async def test_a_row_says_whether_a_person_can_attach(client: KernelClient) -> None:
    await client.run(terminal(ECHO))
    await client.run(sh("exec sleep 600", "plain"))
    assert await attachable(client) == {"hello": True, "plain": False}
    await client.stop(StopRequest(refs=["hello"], how="kill"))
    await until_state(client, "hello", "terminated")
    assert await attachable(client) == {"hello": False, "plain": False}


async def test_a_terminal_that_was_killed_says_so(client: KernelClient, paths: Paths) -> None:
    await client.run(terminal(ECHO))
    await shown(client, "hello", "hello there")
    socket = paths.state / "terminal" / "tmux"
    await anyio.run_process(["tmux", "-S", str(socket), "kill-server"])
    await client.wait(["hello"])
    with pytest.raises((Conflict, BackendError), match="has ended"):
        await client.attach("hello")
    with pytest.raises(BackendError, match="no terminal"):
        await client.history("hello")


async def test_a_new_kernel_has_the_doors_to_what_the_last_one_started(
    kernels: KernelMaker, anyio_backend: str
) -> None:
    async with kernels(leave=True) as first:
        await first.client("ana").run(terminal(ECHO))
        await first.client("ana").run(terminal("echo the last words", "ended"))
        await shown(first.client("ana"), "hello", "hello there")
        await first.client("ana").wait(["ended"])
    async with kernels() as second:
        client = second.client("ben")

        async def adopted() -> bool:
            return (await attachable(client))["hello"] and "hello" in {
                agent.name for agent in await client.agents()
            }

        await until(adopted, "the adoption")
        await client.press(PressRequest(ref="hello", keys=["again", "Enter"]))
        await shown(client, "hello", "got again")
        assert (await client.attach("hello")).run == 1
        assert (await client.history("ended")).lines == ["the last words"]
        assert [body["by"] for body in await bodies(client, "TerminalAttached")] == ["ben"]
