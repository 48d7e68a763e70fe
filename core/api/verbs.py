"""Verbs that are declared in a table: a name, what is asked, what is answered, and who may ask.

The bus, memory and what agents ask about themselves have many verbs, reached by four ways (the control
socket, the agents' HTTP door, MCP, a kernel in this process). Each is one ``Verb``; its handler lies in
``core/syscalls``, and every way finds it by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from .model import Model

Q = TypeVar("Q", bound="Request")
A = TypeVar("A")


class Request(Model):
    """What every verb is asked with."""

    host: str = ""
    """Which of several hosts; kernels do not look at it."""


@dataclass(frozen=True)
class Verb(Generic[Q, A]):
    """One thing that can be asked of a kernel.

    Attributes:
        name: ``room.verb``; also the path it has over HTTP.
        request: The model of the request.
        shape: The type of the answer, anything pydantic can check.
        summary: One sentence, for the API's description.
        agents: An agent may ask it too, as itself; else only a person.
        ref: The request's field that names an agent, if it has one: it tells the host.
        stream: It answers again and again (``KernelClient.follow``).
    """

    name: str
    request: type[Q]
    shape: Any
    summary: str
    agents: bool = False
    ref: str = ""
    stream: bool = False

    @cached_property
    def answer(self) -> TypeAdapter[A]:
        """How answers are checked and written."""
        return TypeAdapter(self.shape)
