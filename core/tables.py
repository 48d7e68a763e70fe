"""Today's schema of the store, as SQLModel classes.

Import this only where a query is not hot: it brings in sqlmodel (0.4 s, 26 MB). The journal itself
speaks to SQLite through the driver; ``store.py`` says why.
"""

from __future__ import annotations

from sqlmodel import Field, SQLModel


class EventRow(SQLModel, table=True):
    """One event: ``hash`` chains the stored bytes of ``body`` to all rows before."""

    __tablename__ = "events"

    seq: int = Field(primary_key=True)
    ts: float
    kind: str
    agent: str | None = Field(default=None, index=True)
    body: bytes
    hash: bytes


class CheckpointRow(SQLModel, table=True):
    """The fold's state after event ``seq``, whose ``hash`` it carries; ``digest`` covers the body."""

    __tablename__ = "checkpoints"

    seq: int = Field(primary_key=True)
    hash: bytes
    digest: bytes
    body: bytes


class ProbeRow(SQLModel, table=True):
    """Written and deleted again to find out whether the disk takes writes."""

    __tablename__ = "probe"

    id: int = Field(primary_key=True)
    filler: bytes


class MigrationRow(SQLModel, table=True):
    """A migration that was applied, and when."""

    __tablename__ = "migrations"

    name: str = Field(primary_key=True)
    applied_at: float
