"""A damaged mail store keeps no kernel from starting, and its successor gives no number twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agenttop.core.api.bus import SEND, SendRequest
from agenttop.core.bus.message import seq_of
from agenttop.core.bus.tables import unavailable
from agenttop.core.paths import Paths

from .conftest import KernelMaker, sh, until

pytestmark = pytest.mark.anyio


def _no_database(path: Path) -> None:
    path.write_bytes(b"what the disk made of it" * 400)


def _bad_rows(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE messages SET head = x'00ff'")


@pytest.mark.parametrize("damage", [_no_database, _bad_rows])
async def test_a_damaged_mail_store_is_put_aside_and_told(
    kernels: KernelMaker, paths: Paths, damage: Callable[[Path], None]
) -> None:
    async with kernels(leave=True) as kernel:
        client = kernel.client()
        for name in ("ann", "bob"):
            await client.run(sh("exec sleep 600", name))
        last = (await client.call(SEND, SendRequest(to="bob", payload="hello"))).id

        async def sealed() -> bool:
            return kernel.books.committed.sealed >= seq_of(last)

        await until(sealed, "the message being sealed", 30)
    damage(paths.mail)
    async with kernels() as kernel:
        client = kernel.client()
        assert "put aside" in (await client.status()).mail_problem
        (kept,) = paths.state.glob("mail.db.damaged-*")
        assert kept.stat().st_mode & 0o077 == 0
        sent = (await client.call(SEND, SendRequest(to="bob", payload="again"))).id
        assert seq_of(sent) > seq_of(last)


async def test_a_bus_that_takes_nothing_is_told_in_the_status(kernels: KernelMaker, paths: Paths) -> None:
    async with kernels() as kernel:
        client = kernel.client()
        assert (await client.status()).mail_problem == ""
        kernel.bus.pipeline.failed([], unavailable(paths.mail, sqlite3.OperationalError("disk I/O error")))
        assert "the mail store" in (await client.status()).mail_problem
