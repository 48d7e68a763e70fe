"""``agenttop``: the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agenttop.core.paths import Paths

if TYPE_CHECKING:
    from agenttop.core.client import KernelClient
    from agenttop.core.starting import Starting


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
    if not embedded:
        # Before anything is imported for the screen: the kernel comes up beside it.
        from agenttop.core.starting import begin

        starting = begin(places)
    try:
        return _show(places, starting, embedded, mouse, theme, ascii, window)
    finally:
        if starting is not None:
            starting.close()


def _show(
    places: Paths,
    starting: Starting | None,
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
