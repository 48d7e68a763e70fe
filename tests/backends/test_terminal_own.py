"""What only terminals have: people in front of them, keys, a history, and a server that can be killed."""

from __future__ import annotations

import os
import shlex
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from agenttop.backends import proc, tmux
from agenttop.backends.subprocess import SubprocessBackend
from agenttop.backends.terminal import TerminalBackend
from agenttop.core.backend import BackendContext, Launch
from agenttop.core.clock import SystemClock
from agenttop.core.errors import BackendError, BackendUnavailable

from ..support.outer import outer_tmux
from .evidence import alive, text
from .rig import DEADLINE, KeptDoors, until
from .terminal_rig import TerminalRig, servers

pytestmark = [pytest.mark.anyio, pytest.mark.tmux]

#: Shows every byte it is typed, until a "q".
KEYS = (
    "stty raw -echo; echo ready; while c=$(dd bs=1 count=1 2>/dev/null | od -An -tx1);"
    ' do echo "<$c>"; case $c in *71) exit 0;; esac; done'
)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[TerminalRig]:
    state = tmp_path / "state"
    state.mkdir()
    rig = TerminalRig(state)
    yield rig
    await rig.finish()


async def shown(rig: TerminalRig, launch: Launch, ref: dict[str, object], text: str) -> str:
    """Wait until the terminal shows ``text``; all it shows."""
    with anyio.fail_after(DEADLINE):
        while text not in (screen := await rig.terminals.history(ref)):
            await anyio.sleep(0.02)
    return screen


# -- what a program sees


async def test_a_program_has_a_terminal_with_a_size_and_a_name(rig: TerminalRig) -> None:
    script = '[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo "tty $(stty size) $TERM [$TMUX$TMUX_PANE]"'
    launch = rig.sh(script, env={"TMUX": "/elsewhere,1,0", "TERM": "vt52", "TERM_PROGRAM": "other"})
    await rig.wait(await rig.start(launch))
    assert text(await rig.read(launch, follow=True)) == f"tty 36 120 {tmux.term()} []\n".encode()


async def test_nothing_of_the_kernels_environment_or_of_the_server_reaches_a_program(
    rig: TerminalRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET_OF_THE_KERNEL", "x")
    launch = rig.launch(("env",))
    await rig.wait(await rig.start(launch))
    said = text(await rig.read(launch, follow=True)).decode().split()
    names = {line.partition("=")[0] for line in said}
    assert names - {"_", "SHLVL", "OLDPWD"} == {*launch.env, "TERM", "PWD"}


async def test_a_command_and_an_environment_longer_than_a_tmux_command_may_be(rig: TerminalRig) -> None:
    argument, value = "a" * 120_000, "v" * 60_000
    launch = rig.launch(("sh", "-c", "echo ${#1} ${#LONG}", "sh", argument), env={"LONG": value})
    await rig.wait(await rig.start(launch))
    assert text(await rig.read(launch, follow=True)) == b"120000 60000\n"


async def test_no_secret_is_in_a_file_or_a_command_line_once_it_has_begun(rig: TerminalRig) -> None:
    launch = rig.sh("echo on; exec sleep 600", env={"THE_SECRET": "a-very-secret-value"})
    await rig.start(launch)
    await rig.said(launch, "on")
    assert not [file for file in launch.folder.iterdir() if b"a-very-secret" in file.read_bytes()]
    lines = [proc.read(f"/proc/{pid}/cmdline") or b"" for pid in proc.pids()]
    assert not any(b"a-very-secret" in line for line in lines)


async def test_what_is_kept_of_a_terminal_is_for_its_owner_only(rig: TerminalRig) -> None:
    launch = rig.sh("echo on")
    await rig.wait(await rig.start(launch))
    files = [launch.folder / "out", launch.folder / "screen", rig.state / "terminal"]
    assert [stat.S_IMODE(file.stat().st_mode) & 0o077 for file in files] == [0, 0, 0]


# -- typing


async def test_every_byte_is_typed_as_it_is(rig: TerminalRig) -> None:
    launch = rig.launch(("sh", "-c", KEYS), plain=False)
    ref = await rig.start(launch)
    await shown(rig, launch, ref, "ready")
    await rig.backend.write(ref, b"\x1b[A;$\\\xc3\xa9\r\n\x00#{pid}q")
    assert (await rig.wait(ref)).code == 0
    seen = [
        line.split("<")[1].split(">")[0].strip()
        for line in text(await rig.read(launch)).decode().split("\n")
        if "<" in line
    ]
    assert bytes.fromhex("".join(seen)) == b"\x1b[A;$\\\xc3\xa9\r\n\x00#{pid}q"


async def test_keys_are_pressed_by_their_names_even_while_somebody_scrolls(rig: TerminalRig) -> None:
    launch = rig.launch(("sh", "-c", KEYS), plain=False)
    ref = await rig.start(launch)
    await shown(rig, launch, ref, "ready")
    server = rig.terminals._server
    await server("copy-mode", "-t", f"={tmux.session(launch.marker)}:")
    await rig.terminals.press(ref, ["Enter", "C-c", "-", ";", "x", "q"])
    assert (await rig.wait(ref)).code == 0
    assert b"".join(text(await rig.read(launch)).split()).count(b"<") == 6


async def test_typing_reaches_a_program_while_somebody_scrolls(rig: TerminalRig) -> None:
    launch = rig.sh("echo ready; read line; echo got $line")
    ref = await rig.start(launch)
    await rig.said(launch, "ready")
    await rig.terminals._server("copy-mode", "-t", f"={tmux.session(launch.marker)}:")
    await rig.backend.write(ref, b"it\n")
    assert (await rig.wait(ref)).code == 0
    assert b"got it" in text(await rig.read(launch))


# -- history


async def test_the_history_of_a_terminal_can_be_searched_while_it_runs_and_its_end_afterwards(
    rig: TerminalRig,
) -> None:
    launch = rig.launch(
        ("sh", "-c", "seq -f 'line %g.' 500; echo all; read x; printf '\\033[31mred'"), plain=False
    )
    ref = await rig.start(launch)
    screen = await shown(rig, launch, ref, "all")
    assert screen.splitlines()[:500] == [f"line {number}." for number in range(1, 501)]
    await rig.backend.write(ref, b"\n")
    await rig.wait(ref)
    await rig.restart_kernel()
    kept = await rig.terminals.history(ref)
    assert kept.splitlines()[-1] == "red"
    assert "line 500." in kept.splitlines()


# -- people


async def test_a_person_attaches_types_and_comes_back_with_one_key_inside_another_tmux(
    rig: TerminalRig, tmp_path: Path
) -> None:
    launch = rig.launch(("sh", "-c", "echo hello there; while read x; do echo got $x; done"), plain=False)
    ref = await rig.start(launch)
    command = shlex.join(await rig.terminals.attach_command(ref))
    with outer_tmux(tmp_path, f"{command}; echo back with $?; sleep 600") as outer:
        await until(lambda: outer.shows("hello there"), "the program's being shown")
        outer("send-keys", "typed", "Enter")
        await until(lambda: outer.shows("got typed"), "the program's answer")
        outer("send-keys", "C-\\")
        await until(lambda: outer.shows("back with 90"), "the way back")
    assert (await rig.adopt(launch, ref)).state == "alive"


async def test_a_killed_client_leaves_the_program_alone(rig: TerminalRig, tmp_path: Path) -> None:
    launch = rig.launch(("sh", "-c", "echo hello there; while read x; do echo got $x; done"), plain=False)
    ref = await rig.start(launch)
    command = await rig.terminals.attach_command(ref)
    # To a file: tmux cleans up after its client, and what stands on the screen by then may go with it.
    back = tmp_path / "back"
    back.touch()
    with outer_tmux(tmp_path, f"{shlex.join(command)}; echo $? >{back}; sleep 600") as outer:
        await until(lambda: outer.shows("hello there"), "the program's being shown")
        clients = (await rig.terminals._server("list-clients", "-F", "#{client_pid}")).split()
        assert len(clients) == 1
        os.kill(int(clients[0]), signal.SIGKILL)
        await until(lambda: back.read_text() == "137\n", "the end of the client")
    await rig.backend.write(ref, b"more\n")
    await rig.said(launch, "got more")


async def test_a_persons_own_tmux_settings_are_not_read(
    rig: TerminalRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".tmux.conf").write_text("set -g status on\nset -g prefix C-b\nset -g history-limit 7\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    await rig.start(rig.sh("exec sleep 600"))
    said = await rig.terminals._server("show-options", "-g")
    assert {"status off", "prefix None", "history-limit 50000"} <= set(said.splitlines())


async def test_a_state_folder_whose_path_is_too_long_for_a_socket(tmp_path: Path) -> None:
    state = tmp_path / ("long" * 30)
    state.mkdir()
    rig = TerminalRig(state)
    launch = rig.sh("echo hello there; read x")
    ref = await rig.start(launch)
    await rig.said(launch, "hello")
    with outer_tmux(tmp_path, shlex.join(await rig.terminals.attach_command(ref))) as outer:
        await until(lambda: outer.shows("hello there"), "the program's being shown")
    await rig.finish()


# -- the server


async def test_a_killed_server_is_told_plainly_and_nothing_is_left(rig: TerminalRig) -> None:
    launch = rig.sh("trap '' HUP; echo on; while :; do sleep 0.05; done")
    ref = await rig.start(launch)
    await rig.said(launch, "on")
    tree = [process.pid for process in await rig.backend.processes(ref)]
    (server,) = servers(rig.state)
    async with anyio.create_task_group() as tasks:

        async def kill() -> None:
            os.kill(server, signal.SIGKILL)

        tasks.start_soon(kill)
        ended = await rig.wait(ref)
    assert ended.failed
    assert "terminal server was killed" in ended.detail
    assert [pid for pid in tree if alive(pid)] == []
    assert text(await rig.read(launch, follow=True)) == b"on\n"


async def test_a_server_killed_while_no_kernel_watched_is_told_by_the_next_one(rig: TerminalRig) -> None:
    launch = rig.sh("trap '' HUP; echo on; while :; do sleep 0.05; done")
    ref = await rig.start_in_doomed_kernel(launch)
    await rig.said(launch, "on")
    (server,) = servers(rig.state)
    os.kill(server, signal.SIGKILL)
    await until(lambda: not alive(server), "the server's end")
    adoption = await rig.adopt(launch, ref)
    assert adoption.state == "alive"
    assert adoption.ref is not None
    with pytest.raises(BackendError, match="no terminal"):
        await rig.terminals.attach_command(adoption.ref)
    assert "terminal server was killed" in (await rig.wait(adoption.ref)).detail


async def test_after_a_killed_server_the_next_program_gets_a_new_one(rig: TerminalRig) -> None:
    first = rig.sh("echo on; exec sleep 600")
    ref = await rig.start(first)
    os.kill(servers(rig.state)[0], signal.SIGKILL)
    assert (await rig.wait(ref)).failed
    second = rig.sh("echo again; exit 3")
    assert (await rig.wait(await rig.start(second))).code == 3
    assert text(await rig.read(second, follow=True)) == b"again\n"


async def test_output_is_copied_on_when_the_process_that_did_was_killed(rig: TerminalRig) -> None:
    launch = rig.sh("echo on; while read x; do echo got $x; done")
    ref = await rig.start(launch)
    await rig.said(launch, "on")
    (server,) = servers(rig.state)
    copying = [
        pid for pid in proc.children(server) if (proc.read(f"/proc/{pid}/cmdline") or b"").startswith(b"cat")
    ]
    os.kill(copying[0], signal.SIGKILL)
    await until(lambda: not alive(copying[0]), "the end of what copied")
    await rig.restart_kernel()
    assert (await rig.adopt(launch, ref)).state == "alive"
    await rig.backend.write(ref, b"more\n")
    await rig.said(launch, "got more")


async def test_a_terminal_whose_kernel_died_before_it_noted_the_server_is_watched_and_closed(
    rig: TerminalRig,
) -> None:
    launch = rig.sh("echo on; while :; do sleep 0.05; done")
    ref = await rig.start_in_doomed_kernel(launch)
    (launch.folder / "server").unlink()
    adoption = await rig.adopt(launch, None)
    assert adoption.ref is not None
    assert (launch.folder / "server").read_text().split()[0] == str(servers(rig.state)[0])
    (launch.folder / "server").unlink()
    await rig.backend.stop(ref, grace=0)
    await rig.wait(adoption.ref)
    await until(lambda: not servers(rig.state), "the end of the session, and with it of the server")


async def test_a_start_that_was_cut_short_never_begins_later(rig: TerminalRig) -> None:
    """The kernel died after it had written what to start, and before a terminal read it."""
    launch = rig.sh("echo on; exec sleep 600")
    (launch.folder / "start").write_text("exec sleep 600\n")
    assert (await rig.adopt(launch, None)).state == "never_started"
    assert not (launch.folder / "start").exists()


# -- without tmux


async def test_without_tmux_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    backend = TerminalBackend(BackendContext(tmp_path / "state", SystemClock(), KeptDoors()))
    (check,) = await backend.check()
    assert (check.level, check.found) == ("missing", "There is no tmux here")
    assert "apt install tmux" in check.hint
    with pytest.raises(BackendUnavailable, match="There is no tmux here"):
        await backend.capabilities()
    await backend.close()


async def test_a_detach_key_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    settings = {"detach_key": "C-\\' ; run-shell 'touch /tmp/x"}
    backend = TerminalBackend(BackendContext(tmp_path / "state", SystemClock(), KeptDoors(), settings))
    with pytest.raises(BackendError, match="detach_key"):
        await backend.capabilities()
    await backend.close()


async def test_where_there_are_no_terminals_nobody_attaches(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    backend = SubprocessBackend(BackendContext(tmp_path / "state", SystemClock(), KeptDoors()))
    for ask in (backend.attach_command({}), backend.press({}, ["a"]), backend.history({}, 1)):
        with pytest.raises(BackendError, match="--backend terminal"):
            await ask
    await backend.close()
