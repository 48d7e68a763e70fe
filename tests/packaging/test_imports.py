"""Imports point one way, tui → core ← backends, and heavy parts are imported when they are needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Package → what no module of it may import, anywhere in it.
NEVER = {
    "core": ("textual", "rich", "typer", "agenttop.tui", "agenttop.backends", "agenttop.themes"),
    "backends": ("textual", "rich", "typer", "fastapi", "agenttop.tui", "agenttop.themes"),
    "themes": ("agenttop.tui", "agenttop.backends"),
    "tui": ("sqlmodel", "sqlalchemy", "aiodocker", "uvicorn", "fastapi", "agenttop.backends"),
}

#: What of core a backend may use: the contract, and what belongs to it.
BACKENDS_MAY = (
    "agenttop.core.backend",
    "agenttop.core.errors",
    "agenttop.core.clock",
    "agenttop.core.nice",
    "agenttop.core.agents.spec",
)

#: What of core the screen may not know: how the kernel works inside.
_INSIDE = """
    kernel local doors holder store http.control http.serve http.callers service embedded journal.journal
    journal.fold gateway.gateway gateway.server agents.supervisor agents.control agents.creation
"""
TUI_NEVER = tuple(f"agenttop.core.{name}" for name in _INSIDE.split())


def modules(package: str) -> Iterator[tuple[Path, str]]:
    """Each module's file and full name."""
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield path, ".".join(("agenttop", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def imported(path: Path, name: str) -> Iterator[str]:
    """Full names of everything a module imports, inside functions and ``TYPE_CHECKING`` too."""
    base = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = base[: len(base) - node.level + 1] if node.level else []
            module = ".".join([*start, *(node.module or "").split(".")]).strip(".")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def within(name: str, roots: tuple[str, ...]) -> bool:
    return any(name == root or name.startswith(root + ".") for root in roots)


@pytest.mark.parametrize("package", NEVER)
def test_no_module_imports_what_its_room_may_not_know(package: str) -> None:
    wrong = [
        f"{n} imports {i}" for p, n in modules(package) for i in imported(p, n) if within(i, NEVER[package])
    ]
    assert wrong == []


def test_backends_import_only_the_contract_of_core() -> None:
    wrong = [
        f"{name} imports {found}"
        for path, name in modules("backends")
        for found in imported(path, name)
        if found.startswith("agenttop.core.") and not within(found, BACKENDS_MAY)
    ]
    assert wrong == []


def test_the_screen_knows_only_the_client_and_its_data() -> None:
    wrong = [
        f"{name} imports {found}"
        for path, name in modules("tui")
        for found in imported(path, name)
        if within(found, TUI_NEVER)
    ]
    assert wrong == []


def test_the_walk_would_see_a_forbidden_import(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from ..tui import app\n    import rich.text as t\nfrom . import x\n")
    found = set(imported(bad, "agenttop.core.bad"))
    assert {"agenttop.tui", "agenttop.tui.app", "rich.text", "agenttop.core", "agenttop.core.x"} <= found


def loaded(code: str) -> set[str]:
    """Top-level names and our own modules in ``sys.modules`` after ``code`` ran in a fresh interpreter."""
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import agenttop.core", ("pydantic", "asyncio")),
        ("import agenttop.core.client", ("fastapi", "sqlmodel", "uvicorn", "aiodocker", "genai_prices")),
        ("import agenttop.core.remote", ("fastapi", "sqlmodel", "uvicorn", "starlette", "rich", "textual")),
        ("import agenttop.core.connect", ("fastapi", "sqlmodel", "uvicorn", "starlette", "rich", "textual")),
        # The fleet is on screen before the models are: they are a third of a screen's imports.
        ("import agenttop.core.connect", ("pydantic", "agenttop.core.api")),
        ("import agenttop.core.starting", ("pydantic", "asyncio", "anyio", "subprocess", "json")),
        (
            "import agenttop.tui.app, agenttop.tui.session, agenttop.tui.widgets.split",
            ("pydantic", "agenttop.core.api"),
        ),
        ("import agenttop.core.quick", ("pydantic", "asyncio", "anyio", "rich", "textual")),
        ("import agenttop.tui.main", ("pydantic", "asyncio", "typer", "rich", "textual")),
        # The clients of agents are loaded when they are named; a door without an event loop needs no models.
        ("import agenttop.core.client", ("pydantic", "asyncio", "anyio", "httptools", "json")),
        ("import agenttop.core.client.blocking", ("pydantic", "asyncio", "anyio", "orjson", "http.client")),
        ("import agenttop.core.client.door", ("pydantic", "aiohttp", "agenttop.core.api")),
        # What an agent's shell runs again and again.
        (
            "from agenttop.tui import main\nfrom agenttop.tui.cli import swift\n"
            "import agenttop.core.client.blocking\n"
            "for names, one in swift.COMMANDS.items(): assert swift.read([*names, *['x'] * one.needed])",
            ("pydantic", "asyncio", "anyio", "typer", "rich", "textual", "orjson"),
        ),
        ("import agenttop.tui.cli.app as a; a.build()", ("pydantic", "asyncio", "rich", "textual")),
        # Nothing of other machines where no host is named.
        (
            "import agenttop.tui.main, agenttop.tui.cli.screen, agenttop.core.connect, agenttop.tui.session",
            ("agenttop.core.hosts", "agenttop.tui.cli.hosts"),
        ),
        ("import agenttop.tui.cli.app as a; a.build()", ("agenttop.core.hosts", "agenttop.tui.cli.hosts")),
        ("import agenttop.core.service", ("textual", "rich", "typer", "agenttop.tui", "agenttop.backends")),
        # A third of a kernel's imports: what is asked first is answered without.
        ("import agenttop.core.service", ("fastapi", "agenttop.core.http.control")),
        ("import agenttop.tui.app", ("sqlmodel", "fastapi", "uvicorn", "aiodocker")),
    ],
)
def test_importing_one_part_does_not_load_others(code: str, absent: tuple[str, ...]) -> None:
    assert sorted(loaded(code) & set(absent)) == []


def test_ps_answers_without_models_event_loop_or_screen(home: Path) -> None:
    code = (
        "from agenttop.tui import main\n"
        "from agenttop.tui.cli import listing\n"
        "listing.ask = lambda target: [AGENT]\n"
        "sys.argv = ['agenttop', 'ps']\n"
        "AGENT = dict(id='a1', name='x', state='executing', reason=None, backend='subprocess', template=None,"
        " owner='o', parent=None, labels={}, nice=0, model=None, pids=[1],"
        " tokens=dict(input=1, cache_read=0, cache_write=0, output=2),"
        " cost_usd=0.1, cost_exact=True, unpriced=False, run=1, started_at=1.0, ended_at=None,"
        " exit_code=None, exit_signal=None, task=None, command=['true'], fleet=None)\n"
        "assert main.main() == 0"
    )
    absent = {"pydantic", "asyncio", "anyio", "typer", "rich", "textual"}
    assert sorted(loaded(code) & absent) == []
