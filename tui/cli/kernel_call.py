"""From a command to the kernel and back: one connection, one verb."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from agenttop.core.errors import KernelUnreachable, UsageError
from agenttop.core.paths import Paths

if TYPE_CHECKING:
    from pydantic import BaseModel

    from agenttop.core.client import KernelClient

T = TypeVar("T")
M = TypeVar("M", bound="BaseModel")


class _Chosen:
    """The hosts that were named for this command, and whether all of them answered."""

    hosts: tuple[str, ...] = ()
    complete = True


def choose_hosts(hosts: Sequence[str]) -> None:
    """What follows is about the kernels of these hosts; none: about this machine's."""
    _Chosen.hosts, _Chosen.complete = tuple(hosts), True


def chosen_hosts() -> tuple[str, ...]:
    """The hosts that were named; none: this machine's kernel is meant, and nothing else."""
    return _Chosen.hosts


def all_answered() -> bool:
    """Whether no named host was away."""
    return _Chosen.complete


def call(work: Callable[[KernelClient], Awaitable[T]], *, start: bool = True) -> T:
    """Run ``work`` with a client of this environment's kernel, which is started if need be.

    Raises:
        AgentTopError: What the kernel said, or why there is none.
    """
    if _Chosen.hosts:
        from . import hosts

        return _note(_unpacked(lambda: hosts.call(_Chosen.hosts, work)))
    import anyio

    from agenttop.core.connect import connect

    async def body() -> T:
        async with await connect(Paths.from_environ(), start=start) as client:
            return await work(client)

    return _unpacked(lambda: anyio.run(body))


def _unpacked(work: Callable[[], T]) -> T:
    try:
        return work()
    except BaseExceptionGroup as group:
        raise _first(group) from group


def _note(answer: tuple[T, bool]) -> T:
    result, complete = answer
    _Chosen.complete = _Chosen.complete and complete
    return result


def _first(error: BaseException) -> BaseException:
    """The one failure in a bundle of a task group and those it cancelled."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def ask(target: str, body: Any = None, *, patient: bool = False) -> Any:
    """One question without models or event loop; the kernel is started if need be.

    Args:
        patient: The kernel may take as long as it needs.

    Raises:
        AgentTopError: What the kernel said, or why there is none.
    """
    if _Chosen.hosts:
        from . import hosts

        return _note(_unpacked(lambda: hosts.ask(_Chosen.hosts, target, body)))
    from agenttop.core import quick

    paths = Paths.from_environ()
    timeout = None if patient else quick.TIMEOUT
    try:
        return quick.ask(paths.socket, target, body, timeout=timeout)
    except KernelUnreachable:
        import anyio

        from agenttop.core.connect import connect

        async def start() -> None:
            await (await connect(paths)).close()

        anyio.run(start)
        return quick.ask(paths.socket, target, body, timeout=timeout)


def checked(model: type[M], **fields: Any) -> M:
    """A request made from command line values.

    Raises:
        UsageError: A value that cannot be, with the field and the rule.
    """
    from pydantic import ValidationError

    try:
        return model(**fields)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, e['loc'])) or model.__name__}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        ]
        raise UsageError("this cannot be done", "; ".join(faults)) from error
