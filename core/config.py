"""``config.toml``: what a person may decide about the kernel and the screen.

Everything has a default, so that the file need not exist. Sizes may be written as ``"64M"`` and
times as ``"10m"``; unknown keys are errors, because a misspelt limit would silently not act.
"""

from __future__ import annotations

import os
import shlex
import stat
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator

from .agents.spec import AgentSpec, Bytes, Idle, Name, Nice, OutputLimits, Restart, Seconds
from .api import Window
from .budget.budget import Budget
from .budget.prices import OwnPrice
from .budget.tables import read as tables_of_budgets
from .errors import ConfigError
from .gateway.providers import BUILT_IN, Provider, fallback_problem
from .mail.settings import BusTable, resolved
from .memory.keeping.settings import MemoryTable
from .paths import Paths
from .tomlfile import TomlFile, merged_over


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _policy(value: object) -> object:
    return {"policy": value} if isinstance(value, str) else value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _words(value: object) -> object:
    return shlex.split(value) if isinstance(value, str) else value


RestartTable = Annotated[Restart, BeforeValidator(_policy)]
"""A restart policy; a bare string is its ``policy``."""

KeyList = Annotated[list[Annotated[str, Field(min_length=1, max_length=40)]], BeforeValidator(_as_list)]


class GatewayTable(_Table):
    """``[gateway]``: the door agents' model calls go through."""

    port: Annotated[int, Field(ge=1024, le=65_535)] | None = None
    """Instead of the port that was chosen once for the state directory."""
    check_peers: bool = True
    """Take an agent's secret only from connections of its own processes, where that can be told."""
    max_body: Annotated[Bytes, Field(ge=1 << 10, le=1 << 30)] = 32 << 20
    """The largest request body an agent may send, in bytes."""


class KernelTable(_Table):
    """``[kernel]``: the kernel's own process."""

    linger: Seconds = 10.0
    """How long it stays, in seconds, when nothing is left to look after."""
    log_size: Annotated[Bytes, Field(ge=4 << 10)] = 4 << 20
    """The log file is rotated at this size, in bytes."""
    log_count: Annotated[int, Field(ge=0, le=100)] = 3
    """How many rotated log files are kept."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class NotifyTable(_Table):
    """``[notify]``: how the screen says that an agent waits for its person; F2 setup wins."""

    bell: bool = True
    """Ring the terminal's bell."""
    osc: bool = True
    """Send a desktop notification through the terminal (OSC 9 and OSC 777)."""
    header: bool = True
    """Mark the count in the header."""


class DefaultsTable(_Table):
    """``[defaults]``: what a spec gets where neither it nor its template says otherwise."""

    backend: Name = "subprocess"
    restart: RestartTable = Restart()
    stop_grace: Seconds = 10.0
    nice: Nice = 0


PerMillion = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
"""USD per million tokens."""


class ModelTable(_Table):
    """``[models."PATTERN"]``: one's own prices and sizes of models, before those of the price lists.

    The pattern is a shell pattern on ``model`` or ``provider/model``. Prices are in USD per million
    tokens; a cache price that is not given is the input's. Sizes are in tokens.
    """

    input: PerMillion | None = None
    output: PerMillion | None = None
    cache_read: PerMillion | None = None
    cache_write: PerMillion | None = None
    cache_write_1h: PerMillion | None = None
    context: Annotated[int, Field(ge=1, le=10**9)] | None = None
    """What the model's context holds."""
    max_output: Annotated[int, Field(ge=1, le=10**9)] | None = None
    """The most one reply may have; bounds the reservation of a call that does not say."""

    @model_validator(mode="after")
    def _whole_price(self) -> ModelTable:
        prices = (self.input, self.output, self.cache_read, self.cache_write, self.cache_write_1h)
        if any(price is not None for price in prices) and (self.input is None or self.output is None):
            raise ValueError("a price has input and output at least")
        return self


class RunawayTable(_Table):
    """``[runaway]``: when an agent that seems to run in circles is held, and a person asked."""

    enabled: bool = True
    identical: Annotated[int, Field(ge=2, le=1000)] = 60
    """So many identical requests answered within ``window``."""
    near: Annotated[int, Field(ge=2, le=1000)] = 120
    """So many nearly identical ones."""
    window: Annotated[Seconds, Field(ge=1, le=86_400)] = 600.0
    """In seconds, or such as ``"10m"``."""
    rate: Annotated[float, Field(ge=1.5, le=1e6, allow_inf_nan=False)] = 8.0
    """So many times the agent's own usual calls a minute."""
    floor: Annotated[int, Field(ge=1, le=1_000_000)] = 60
    """Fewer calls a minute than this are never too many."""


class BudgetsTable(_Table):
    """``[budgets]``: limits that exist from the kernel's start on; each is a table ``[budgets.NAME]``."""

    unpriced: Literal["pass", "ask", "deny"] = "pass"
    """What becomes of a call without a known price under a budget in USD; its tokens count in any case."""
    declared: list[Budget] = Field(default_factory=list)


#: ``off`` in the environment: agents that somebody else started are not looked for, unless the file says so.
OBSERVE = "AGENTTOP_OBSERVE"


class ObserveTable(_Table):
    """``[observe]``: agents that run on this machine and were started by somebody else."""

    enabled: bool = Field(default_factory=lambda: os.environ.get(OBSERVE, "") != "off")
    """Whether they are looked for."""
    clis: Annotated[list[Name] | None, BeforeValidator(_as_list)] = None
    """Which CLIs' (``claude``, ``codex``, …); absent: all that have a reader."""
    interval: Annotated[Seconds, Field(ge=0.2, le=3600)] = 1.0
    """Seconds between two looks at the processes while somebody watches."""


class WorktreesTable(_Table):
    """``[worktrees]``: what becomes of agents' own git worktrees when the agents are removed."""

    disposable: list[Annotated[str, Field(min_length=1, max_length=255)]] = Field(
        default_factory=list, max_length=1000
    )
    """Names of folders that git ignores and that may be deleted with a worktree, such as ``node_modules``."""


class ScreenTable(_Table):
    """``[screen]``: how the screen looks; what F2 setup saves lies in ``screen.toml`` and wins."""

    theme: str | None = None
    ascii: bool = False
    mouse: bool = False
    window: Window = "today"
    refresh: Annotated[Seconds, Field(ge=0.1, le=3600)] = 1.0
    """Seconds between two refreshes."""


class HostTable(_Table):
    """``[remote.HOST]``: one host of ``--host``, as it is typed there or by its name alone."""

    command: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """The words for agenttop in a shell on that host: a path, or with variables before it."""


class RemoteTable(BaseModel):
    """``[remote]``: how ``--host`` reaches other machines."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, HostTable]

    ssh: Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(_words)] = Field(
        default=["ssh"], min_length=1
    )
    """The command in place of ``ssh``, with options of one's own."""

    def hosts(self) -> dict[str, HostTable]:
        """``[remote.HOST]`` by host."""
        return dict(self.__pydantic_extra__)


class Config(_Table):
    """The whole file. ``anthropic``, ``openai`` and ``gemini`` are among the providers always.

    A provider's ``base_url`` is what stands before the path a client asks for. Clients of OpenAI
    ask for ``/v1/…`` themselves, so that its base URL ends without it.
    """

    providers: dict[str, Provider] = Field(default_factory=lambda: dict(BUILT_IN))
    backends: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    """``[backends.NAME]``: handed to that backend, which checks it."""
    models: dict[Annotated[str, Field(min_length=1, max_length=200)], ModelTable] = Field(
        default_factory=dict
    )
    """``[models."PATTERN"]``: prices and sizes."""
    runaway: RunawayTable = RunawayTable()
    observe: ObserveTable = Field(default_factory=ObserveTable)
    budgets: BudgetsTable = BudgetsTable()
    gateway: GatewayTable = GatewayTable()
    kernel: KernelTable = KernelTable()
    output: OutputLimits = OutputLimits()
    idle: Idle = Idle()
    """When idle agents are frozen, where neither spec nor template says."""
    notify: NotifyTable = NotifyTable()
    defaults: DefaultsTable = DefaultsTable()
    keys: dict[Annotated[str, Field(max_length=80)], KeyList] = Field(default_factory=dict)
    """Action id → the keys it is bound to, instead of its own."""
    screen: ScreenTable = ScreenTable()
    remote: RemoteTable = RemoteTable()

    worktrees: WorktreesTable = WorktreesTable()
    bus: BusTable = BusTable()
    memory: MemoryTable = MemoryTable()

    _file: TomlFile | None = PrivateAttr(default=None)

    def complete(self, spec: AgentSpec) -> AgentSpec:
        """``spec``, its template applied, with ``[defaults]``, ``[output]``, ``[idle]`` where it is silent.

        Silent is what equals the built-in default: after a journey as JSON nothing else can be told.
        """
        ours = {
            **self.defaults.model_dump(exclude_defaults=True),
            "output": self.output.model_dump(),
            "idle": self.idle.model_dump(exclude_defaults=True),
        }
        return AgentSpec.model_validate(merged_over(ours, spec.model_dump(exclude_defaults=True)))

    def prices(self) -> dict[str, OwnPrice]:
        """``[models."PATTERN"]`` as the price lists' forerunner has it."""
        return {
            pattern: OwnPrice(
                input=model.input,
                output=model.output,
                cache_read=model.cache_read,
                cache_write_5m=model.cache_write,
                cache_write_1h=model.cache_write if model.cache_write_1h is None else model.cache_write_1h,
                context_limit=model.context,
                max_output=model.max_output,
            )
            for pattern, model in self.models.items()
        }

    def wrong(self, *location: str | int, message: str) -> ConfigError:
        """The error for a value that only its user can judge (a key action, a theme's name)."""
        if self._file is None:
            return ConfigError(f"configuration: {'.'.join(map(str, location))}: {message}")
        return self._file.wrong(location, message)


def load(paths: Paths) -> Config:
    """The configuration of these paths; all defaults where there is no file.

    Raises:
        ConfigError: Naming file, line and field.
    """
    try:
        file = TomlFile.read(paths.config_file)
    except FileNotFoundError:
        return Config()
    data = dict(file.data)
    data["providers"] = _providers(file, data.get("providers", {}))
    data["budgets"] = _budgets(file, data.get("budgets", {}))
    if isinstance(bus := data.get("bus"), dict) and "schemas" in bus:
        data["bus"] = {**bus, "schemas": resolved(bus["schemas"], file.path.parent)}
    config = file.validate(Config, data)
    for name, provider in config.providers.items():
        _check_key_file(file, name, provider)
        if problem := fallback_problem(provider, config.providers):
            raise file.wrong(["providers", name, "fallback"], problem)
    _check_memory(file, config)
    config._file = file
    return config


def _providers(file: TomlFile, declared: Any) -> Any:
    """The declared providers on top of those that exist anyway, as data to be validated."""
    if not isinstance(declared, dict):
        return declared
    merged: dict[str, Any] = {
        name: provider.model_dump(exclude_none=True) for name, provider in BUILT_IN.items()
    }
    known = [field for field in Provider.model_fields if field != "name"]
    for name, table in declared.items():
        if not isinstance(table, dict):
            raise file.wrong(["providers", name], "this is a table: [providers.NAME]")
        file.refuse_unknown(table, known, ["providers", name])
        merged[name] = _over(merged.get(name, {}), {**table, "name": name}, file.path.parent)
    return merged


def _budgets(file: TomlFile, tables: Any) -> Any:
    if not isinstance(tables, dict):
        return tables
    named = {name: table for name, table in tables.items() if name != "unpriced"}
    settings = {name: value for name, value in tables.items() if name == "unpriced"}
    return {**settings, "declared": tables_of_budgets(file, named, ["budgets"], {})}


def _check_memory(file: TomlFile, config: Config) -> None:
    for field, choice in (("embeddings", config.memory.embeddings), ("summaries", config.memory.summaries)):
        if choice is None:
            continue
        place = ["memory", field, "provider"]
        provider = config.providers.get(choice.provider)
        if provider is None:
            raise file.wrong(place, f"there is no provider {choice.provider}")
        if provider.auth != "inject":
            raise file.wrong(place, f"{choice.provider} has no key of its own: the kernel itself asks it")
        if field == "embeddings" and provider.protocol != "openai":
            raise file.wrong(place, f"{choice.provider} does not speak OpenAI's protocol")


def _over(base: dict[str, Any], table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A declared provider over a built-in one; its own source of the key replaces the other's."""
    own_key = "key_file" in table or "key_keyring" in table
    kept = {key: value for key, value in base.items() if key != "key_env" or not own_key}
    if isinstance(path := table.get("key_file"), str):
        table = {**table, "key_file": folder / Path(path).expanduser()}
    return {**kept, **table}


def _check_key_file(file: TomlFile, name: str, provider: Provider) -> None:
    if provider.key_file is None:
        return
    place = ["providers", name, "key_file"]
    try:
        mode = stat.S_IMODE(provider.key_file.stat().st_mode)
    except FileNotFoundError:
        return  # It may be put there later; calls wait for it and the row names it.
    except OSError as error:
        raise file.wrong(place, f"{provider.key_file}: {error.strerror}") from error
    if mode & 0o077:
        message = f"{provider.key_file} can be read by others (mode {mode:04o})"
        raise file.wrong(place, message, hint=f"chmod 600 {provider.key_file}")
