"""The backend contract, whole, in terminals: what differs is what a terminal is, and stands here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from .contract import BackendContract
from .evidence import killed, text
from .rig import DEADLINE, Rig
from .terminal_rig import TerminalRig
from .test_subprocess import settings_for

pytestmark = [pytest.mark.anyio, pytest.mark.tmux]


@pytest.mark.parametrize("mechanism", ["cgroup2", "signal"])
class TestTerminal(BackendContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path, mechanism: str) -> AsyncIterator[Rig]:
        state = tmp_path / "state"
        state.mkdir()
        rig = TerminalRig(state, settings_for(state, mechanism))
        yield rig
        await rig.finish()

    # -- one terminal is both streams

    async def test_output_of_both_streams_is_kept(self, rig: Rig) -> None:
        launch = rig.sh("echo one; echo two >&2; echo three")
        await rig.wait(await rig.start(launch))
        chunks = await rig.read(launch, follow=True)
        assert text(chunks, "out") == b"one\ntwo\nthree\n"
        assert text(chunks, "err") == b""

    async def test_output_from_an_offset(self, rig: Rig) -> None:
        launch = rig.sh("printf 0123456789; printf abcdef >&2")
        await rig.wait(await rig.start(launch))
        chunks = await rig.read(launch, {"out": 4, "err": 6})
        assert text(chunks, "out") == b"456789abcdef"
        assert chunks[0].offset == 4

    async def test_stop_lets_a_program_end_by_itself(self, rig: Rig) -> None:
        """A shell says on stderr which of its children were ended, which is seen here."""
        launch = rig.sh("trap 'echo bye; exit 5' TERM; echo on; while :; do sleep 0.05; done")
        ref = await rig.start(launch)
        await rig.said(launch, "on")
        await killed(rig, ref, grace=DEADLINE)
        assert (await rig.wait(ref)).code == 5
        said = text(await rig.read(launch, follow=True)).splitlines()
        assert [said[0], said[-1]] == [b"on", b"bye"]

    # -- a terminal always has a keyboard

    async def test_without_stdin_a_program_reads_nothing(self, rig: Rig) -> None:
        """Nobody types: it waits, until it is told of the end."""
        launch = rig.sh("echo ready; cat; exit 3")
        ref = await rig.start(launch)
        await rig.said(launch, "ready")
        with anyio.move_on_after(0.2) as scope:
            await rig.backend.wait(ref)
        assert scope.cancelled_caught
        await rig.backend.write(ref, None)
        assert (await rig.wait(ref)).code == 3
        assert text(await rig.read(launch, follow=True)) == b"ready\n"

    async def test_writing_without_stdin_is_an_error(self, rig: Rig) -> None:
        """It is none here: every terminal can be typed into."""
        launch = rig.sh("echo ready; read line; echo got $line")
        ref = await rig.start(launch)
        await rig.said(launch, "ready")
        await rig.backend.write(ref, b"it\n")
        await rig.wait(ref)
        assert text(await rig.read(launch, follow=True)) == b"ready\ngot it\n"

    async def test_a_large_write_waits_for_its_reader(self, rig: Rig) -> None:
        """A line of a terminal ends at 4095 bytes (termios(3)): as one that reads key by key."""
        launch = rig.sh("stty raw; echo ready; sleep 0.3; head -c 1000000 | wc -c", stdin=True)
        ref = await rig.start(launch)
        await rig.said(launch, "ready")
        with anyio.fail_after(DEADLINE):
            await rig.backend.write(ref, b"x" * 1_000_000)
        await rig.wait(ref)
        assert text(await rig.read(launch, follow=True)).split() == [b"ready", b"1000000"]
