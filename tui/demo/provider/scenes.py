"""What the mock model says and which tools it uses: one small shop's repository, told as data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

THOUGHTS = (
    "The handler reads the key but never stores it, so a retry after a timeout books the order twice.",
    "A unique index would make the second insert fail, and then the first reply can be replayed.",
    "Before I change anything I want to see who else calls this.",
    "The failing test expects 409, the code returns 200 with the old body. Which of them is right?",
    "There are two clocks here, and only one of them is injected.",
    "If the migration runs while the old code is live, the column must have a default.",
    "The fixture leaks a connection; that would explain why it only fails in the full run.",
    "Smallest change first: make it fail, make it pass, then look at the shape again.",
)

SENTENCES = (
    "Three callers use this, and only the HTTP one can be retried by a client.",
    "I'll write the failing test first.",
    "The store needs a unique index, or two retries at once both get through.",
    "That explains the flaky run on Tuesday: the clock was read twice.",
    "The types agree with the schema again.",
    "Next I check that the refund path keeps the same key.",
    "I left the public signature as it was, so nothing outside the module changes.",
    "This reads better with the early return, and the test names the rule now.",
    "One edge is left: a key that expires between the lookup and the insert.",
    "The slow part is the serialiser, not the query; the query takes two milliseconds.",
    "I found the same pattern in the billing job and noted it, without touching it.",
    "The suite is green, and coverage of the module went from 81 to 94 per cent.",
)

FILES = (
    "src/shop/api/orders.py",
    "src/shop/api/refunds.py",
    "src/shop/store/orders.sql",
    "src/shop/store/keys.py",
    "tests/orders/test_create.py",
    "tests/orders/test_retry.py",
    "tests/orders/test_refund.py",
    "pyproject.toml",
    "docs/idempotency.md",
    "src/shop/jobs/billing.py",
    "src/shop/ui/cart.tsx",
    "migrations/0042_order_keys.sql",
)

PATTERNS = ("place_order", "Idempotency-Key", r"def lookup\(", "TODO", "orders_key", r"class \w+Store")

EDITS = (
    (
        "    return await place(order)",
        "    key = request.headers.get('Idempotency-Key')\n    if key and (seen := await lookup(key)):\n"
        "        return replay(seen)\n    return await place(order)",
    ),
    (
        "create index orders_customer on orders (customer);",
        "create unique index orders_key on orders (customer, key);",
    ),
    ("assert response.status == 200", "assert response.status == 200\n    assert response.json() == first"),
    ("now = datetime.now()", "now = clock.now()"),
)

COMMANDS = (
    ("uv run pytest tests/orders -q", "Run the order tests"),
    ("git diff --stat", "See what changed"),
    ("uv run ruff check src", "Lint"),
    ("npm test -- cart-drawer", "Run the cart tests"),
)

DELEGATES: dict[str, dict[str, Any]] = {
    "Agent": {"subagent_type": "general-purpose", "run_in_background": False},
    "agent": {"subagent_type": "general-purpose", "run_in_background": False},
    "invoke_agent": {"agent_name": "generalist"},
    "spawn_agent": {"task_name": "retry_and_expiry", "fork_turns": "none"},
    "task": {"subagent_type": "general", "agent_type": "general-purpose", "name": "retry", "mode": "sync"},
}
"""The tools with which CLIs start a subagent, and what each has to be told."""

HARMLESS = ("echo hi", "Say hi")
"""The command given to clients that did not ask for particular tools: they may really run it."""


def prose(rng: Random, sentences: int) -> str:
    """Some sentences."""
    return " ".join(_drawn(rng, SENTENCES, sentences))


def thoughts(rng: Random, sentences: int) -> str:
    """Some thinking."""
    return " ".join(_drawn(rng, THOUGHTS, sentences))


def _drawn(rng: Random, pool: Sequence[str], count: int) -> Iterator[str]:
    """``count`` of them, all once before any comes again."""
    while count > 0:
        yield from rng.sample(pool, min(count, len(pool)))
        count -= len(pool)


def tool_input(name: str, schema: dict[str, Any], rng: Random, *, asked: bool) -> dict[str, Any]:
    """Arguments for a tool: from the repository for well-known ones, else filled from its schema.

    Without ``asked`` nothing is chosen that would change anything where it is run.
    """
    file = rng.choice(FILES)
    match name:
        case "Bash" | "bash" | "run_shell_command" | "shell_command" | "exec_command":
            command, description = rng.choice(COMMANDS) if asked else HARMLESS
            return _shell(schema, command, description)
        case "shell" | "local_shell" | "container.exec":
            return {"command": ["bash", "-lc", rng.choice(COMMANDS)[0] if asked else HARMLESS[0]]}
        case "Read":
            return {"file_path": file}
        case "Grep":
            return {"pattern": rng.choice(PATTERNS), "path": "src/"}
        case "Glob":
            return {"pattern": "src/**/*.py"}
        case "Edit" if asked:
            old, new = rng.choice(EDITS)
            return {"file_path": file, "old_string": old, "new_string": new}
        case "Write" if asked:
            return {"file_path": "docs/idempotency.md", "content": prose(rng, 3)}
        case "Task" if asked:
            return {
                "description": "Cover retry and expiry",
                "prompt": prose(rng, 2),
                "subagent_type": "general",
            }
    filled = fill(schema, rng)
    if not isinstance(filled, dict):
        return {}
    return filled | _delegated(name, schema) if asked else filled


def _delegated(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """What CLIs' tools that start a subagent need besides: one that there is, to be waited for."""
    if name not in DELEGATES:
        return {}
    values = DELEGATES[name] | {"prompt": "Cover retry and expiry.", "message": "Cover retry and expiry."}
    return {key: value for key, value in values.items() if key in (schema.get("properties") or {})}


def custom_input(name: str, rng: Random) -> str:
    """What goes to a tool that does not take JSON: Codex's ``exec`` takes a script, others any text."""
    if name == "exec":
        return f'const said = await tools.exec_command({{cmd: "{HARMLESS[0]}"}});\ntext(said);\n'
    return prose(rng, 1)


def _shell(schema: dict[str, Any], command: str, description: str) -> dict[str, Any]:
    """The arguments of a shell tool, in the names its schema has for them."""
    known = schema.get("properties") or {}
    values = {"cmd" if "cmd" in known else "command": command}
    if "description" in known or schema.get("additionalProperties") is not False:
        values["description"] = description
    return values


def fill(schema: dict[str, Any], rng: Random, depth: int = 0) -> Any:
    """The smallest value that a JSON schema accepts, as far as clients' tools use it."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for union in ("anyOf", "oneOf", "allOf"):
        if schema.get(union):
            return fill(schema[union][0], rng, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0]
    kind = str(kind).lower()  # Gemini's are in capitals
    match kind:
        case "object":
            fields = schema.get("properties", {})
            wanted = schema.get("required", []) if depth < 16 else []
            return {name: fill(fields.get(name, {}), rng, depth + 1) for name in wanted}
        case "array":
            return [fill(schema.get("items", {}), rng, depth + 1) for _ in range(schema.get("minItems", 0))]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
        case "null":
            return None
    return rng.choice(SENTENCES)[: schema.get("maxLength", 60)]
