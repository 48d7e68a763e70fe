"""The contract's rules for what a program prints and is told."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import pytest

from agenttop.core.agents.spec import OutputLimits
from agenttop.core.backend import Chunk
from agenttop.core.errors import BackendError

from .evidence import text
from .rig import DEADLINE, Rig


class StreamsContract:
    """Output from an offset, followed and trimmed; stdin."""

    # -- output

    async def test_output_of_both_streams_is_kept(self, rig: Rig) -> None:
        launch = rig.sh("echo one; echo two >&2; echo three")
        await rig.wait(await rig.start(launch))
        chunks = await rig.read(launch, follow=True)
        assert text(chunks, "out") == b"one\nthree\n"
        assert text(chunks, "err") == b"two\n"

    async def test_output_from_an_offset(self, rig: Rig) -> None:
        launch = rig.sh("printf 0123456789; printf abcdef >&2")
        await rig.wait(await rig.start(launch))
        await rig.read(launch, follow=True)
        chunks = await rig.read(launch, {"out": 4, "err": 6})
        assert text(chunks, "out") == b"456789"
        assert text(chunks, "err") == b""
        assert chunks[0].offset == 4

    async def test_offsets_count_every_byte(self, rig: Rig) -> None:
        launch = rig.sh("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done")
        await rig.start(launch)
        chunks = [chunk for chunk in await rig.read(launch, follow=True) if chunk.stream == "out"]
        position = 0
        for chunk in chunks:
            assert chunk.offset == position
            position += len(chunk.data)
        assert text(chunks).splitlines() == [b"line %d" % n for n in range(20000)]

    async def test_hostile_bytes_arrive_unchanged(self, rig: Rig) -> None:
        launch = rig.sh(r"printf '\033]0;x\007\000\377\200\r\n'")
        await rig.wait(await rig.start(launch))
        assert text(await rig.read(launch, follow=True)) == b"\x1b]0;x\x07\x00\xff\x80\r\n"

    async def test_follow_sees_what_comes_later(self, rig: Rig) -> None:
        launch = rig.sh("echo ready; read line; echo got $line", stdin=True)
        ref = await rig.start(launch)
        await rig.said(launch, "ready")
        seen: list[Chunk] = []
        async with anyio.create_task_group() as tasks:

            async def follow() -> None:
                seen.extend(await rig.read(launch, {"out": 6}, follow=True))

            tasks.start_soon(follow)
            await rig.backend.write(ref, b"later\n")
        assert text(seen) == b"got later\n"

    async def test_cancelling_a_follower_leaves_the_run_alone(self, rig: Rig) -> None:
        launch = rig.sh("echo ready; exec sleep 600")
        ref = await rig.start(launch)
        await rig.said(launch, "ready")
        with anyio.move_on_after(0.1) as scope:
            async with aclosing(rig.backend.output(launch, follow=True)) as chunks:  # type: ignore[type-var]
                async for _ in chunks:
                    pass
        assert scope.cancelled_caught
        assert await rig.backend.processes(ref)

    async def test_output_of_an_ended_run_survives_the_kernel(self, rig: Rig) -> None:
        launch = rig.sh("echo last words")
        await rig.wait(await rig.start(launch))
        await rig.read(launch, follow=True)
        await rig.restart_kernel()
        assert text(await rig.read(launch, follow=True)) == b"last words\n"

    async def test_trim_keeps_the_newest_and_offsets_stay(self, rig: Rig) -> None:
        keep = 1 << 20
        launch = rig.sh(
            "dd if=/dev/zero bs=65536 count=64 2>/dev/null; printf END; read x; printf MORE",
            stdin=True,
            output=OutputLimits(bytes=keep),
        )
        ref = await rig.start(launch)
        total = 64 * 65536 + 3
        await rig.said(launch, "END")
        await rig.backend.trim(launch)
        chunks = [chunk for chunk in await rig.read(launch) if chunk.stream == "out"]
        assert chunks[0].offset > 0
        assert chunks[-1].offset + len(chunks[-1].data) == total
        assert total - chunks[0].offset <= keep * 1.25
        assert text(chunks).endswith(b"END")
        await rig.backend.write(ref, b"\n")
        await rig.wait(ref)
        assert text(await rig.read(launch, {"out": total}, follow=True)) == b"MORE"

    # -- stdin

    async def test_stdin_arrives_and_closes(self, rig: Rig) -> None:
        launch = rig.launch(("cat",), stdin=True)
        ref = await rig.start(launch)
        await rig.backend.write(ref, b"hello\n")
        await rig.backend.write(ref, b"world\n")
        await rig.backend.write(ref, None)
        assert (await rig.wait(ref)).code == 0
        assert text(await rig.read(launch, follow=True)) == b"hello\nworld\n"

    async def test_a_large_write_waits_for_its_reader(self, rig: Rig) -> None:
        launch = rig.sh("sleep 0.3; wc -c", stdin=True)
        ref = await rig.start(launch)
        with anyio.fail_after(DEADLINE):
            await rig.backend.write(ref, b"x" * 1_000_000)
            await rig.backend.write(ref, None)
        await rig.wait(ref)
        assert text(await rig.read(launch, follow=True)).strip() == b"1000000"

    async def test_writing_after_close_is_an_error(self, rig: Rig) -> None:
        ref = await rig.start(rig.sh("cat; exec sleep 600", stdin=True))
        await rig.backend.write(ref, None)
        with pytest.raises(BackendError):
            await rig.backend.write(ref, b"x")

    async def test_without_stdin_a_program_reads_nothing(self, rig: Rig) -> None:
        launch = rig.launch(("cat",))
        ref = await rig.start(launch)
        assert (await rig.wait(ref)).code == 0

    async def test_writing_without_stdin_is_an_error(self, rig: Rig) -> None:
        ref = await rig.start(rig.launch(("sleep", "600")))
        with pytest.raises(BackendError):
            await rig.backend.write(ref, b"x")
