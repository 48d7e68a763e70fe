"""What another machine's kernel answers, checked before it is believed.

A kernel of this machine is ours, and its rows are taken as they come. One elsewhere may be broken or worse:
whatever it says, it ends in an error about that host, and neither in the screen's end nor in its memory.
"""

from __future__ import annotations

import functools
import inspect
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ..remote import SocketClient
from ..table import Delta, EventInfo, Snapshot
from .address import Address
from .dial import senseless

_FORMS: dict[type, TypeAdapter[Any]] = {form: TypeAdapter(form) for form in (Snapshot, Delta, EventInfo)}
"""What is read without models, because it must be quick."""

_NONSENSE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, struct.error)
"""What reading an answer raises that is not as it should be; pydantic's and orjson's errors are such."""


class CheckedClient(SocketClient):
    """A ``SocketClient`` all of whose answers are checked.

    Args:
        path: See ``SocketClient``.
        address: Whose kernel it is.
    """

    def __init__(self, path: Path, address: Address) -> None:
        super().__init__(path)
        self.address = address


def _believed(found: Any) -> Any:
    if isinstance(found, list):
        return [_believed(one) for one in found]
    form = _FORMS.get(type(found))
    return found if form is None else form.validate_python(found, strict=True)


def _verb(verb: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(verb)
    async def checked(self: CheckedClient, *args: Any, **kwargs: Any) -> Any:
        try:
            return _believed(await verb(self, *args, **kwargs))
        except _NONSENSE as error:
            raise senseless(self.address) from error

    return checked


def _stream(verb: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., AsyncIterator[Any]]:
    @functools.wraps(verb)
    async def checked(self: CheckedClient, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async with aclosing(verb(self, *args, **kwargs)) as found:
            while True:
                try:
                    one = _believed(await anext(found))
                except StopAsyncIteration:
                    return
                except _NONSENSE as error:
                    raise senseless(self.address) from error
                yield one

    return checked


for _name, _found in vars(SocketClient).items():
    if not _name.startswith("_"):
        if inspect.isasyncgenfunction(_found):
            setattr(CheckedClient, _name, _stream(_found))
        elif inspect.iscoroutinefunction(_found):
            setattr(CheckedClient, _name, _verb(_found))
