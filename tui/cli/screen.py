"""``agenttop``: the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agenttop.core.paths import Paths

from .kernel_call import chosen_hosts

if TYPE_CHECKING:
    from agenttop.core.client import KernelClient
    from agenttop.core.starting import Starting

    from .hosts import Hosts


def open_screen(
    paths: Paths | None = None,
    *,
    embedded: bool = False,
    mouse: bool = False,
    theme: str | None = None,
    ascii: bool | None = None,
    window: str | None = None,
) -> int:
    """Show the screen until it is left; gives the exit status.

    Raises:
        AgentTopError: A wrong configuration, theme or window; nothing was shown.
    """
    places = paths or Paths.from_environ()
    starting: Starting | None = None
    hosts = _called(places, embedded)
    if not embedded and hosts is None:
        # Before anything is imported for the screen: the kernel comes up beside it.
        from agenttop.core.starting import begin

        starting = begin(places)
    try:
        return _show(places, starting, hosts, embedded, mouse, theme, ascii, window)
    finally:
        if starting is not None:
            starting.close()
        if hosts is not None:
            hosts.close()


def _called(places: Paths, embedded: bool) -> Hosts | None:
    """The hosts that were named, called while ssh can still ask on the terminal; ``None``: none were."""
    names = chosen_hosts()
    if not names:
        return None
    from agenttop.core.errors import UsageError

    if embedded:
        raise UsageError(
            "--embedded and --host do not go together", "A kernel elsewhere is not in this process"
        )
    from .hosts import Hosts

    return Hosts(names, places)


def _show(
    places: Paths,
    starting: Starting | None,
    hosts: Hosts | None,
    embedded: bool,
    mouse: bool,
    theme: str | None,
    ascii: bool | None,
    window: str | None,
) -> int:
    from ..app import AgentTopApp

    options: dict[str, Any] = {"theme": theme, "ascii": ascii}
    if places.config_file.exists():
        # Only then: the first frame does not wait for pydantic where there is nothing to check.
        mouse = _configured(places, options) or mouse
    if window is not None:
        options["window"] = _window(window)

    async def to_kernel() -> KernelClient:
        if hosts is not None:
            return hosts.client()
        from agenttop.core.connect import connect

        nonlocal starting
        begun, starting = starting, None  # the next time, ``connect`` looks for itself
        return await connect(places, starting=begun, embedded=embedded)

    app = AgentTopApp(to_kernel, paths=places, **options)
    app.run(mouse=mouse or app.settings.mouse)
    return app.return_code or 0


def _configured(paths: Paths, options: dict[str, Any]) -> bool:
    """Fill ``options`` from the configuration where the command line is silent; gives its ``mouse``."""
    from agenttop.core import config

    chosen = config.load(paths)
    options["keys"] = chosen.keys
    options["notify"] = chosen.notify.model_dump()
    options["theme"] = options["theme"] or chosen.screen.theme
    if options["ascii"] is None and chosen.screen.ascii:
        options["ascii"] = True
    return chosen.screen.mouse


def _window(window: str) -> str:
    from agenttop.core.api import WINDOWS
    from agenttop.core.errors import UsageError

    if window not in WINDOWS:
        raise UsageError(f"there is no window {window}", hint=f"Take one of {', '.join(WINDOWS)}")
    return window
