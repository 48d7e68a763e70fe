"""Where agenttop keeps things. Nothing is ever written outside these folders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import AgentTopError

APP = "agenttop"


@dataclass(frozen=True, slots=True)
class Paths:
    """The folders and files of one state directory; one kernel per ``state``.

    ``AGENTTOP_HOME`` puts everything below one folder. Otherwise the XDG base directories hold:
    configuration in ``$XDG_CONFIG_HOME/agenttop``, state in ``$XDG_STATE_HOME/agenttop``. The control
    socket lies in the state folder and not in ``XDG_RUNTIME_DIR``, because logind removes that with
    the user's last session while the fleet lives on.
    """

    config: Path
    state: Path

    @property
    def config_file(self) -> Path:
        """``config.toml``; need not exist."""
        return self.config / "config.toml"

    @property
    def templates(self) -> Path:
        """The user's own templates, one TOML file each."""
        return self.config / "templates"

    @property
    def screen_file(self) -> Path:
        """What F2 setup saves: columns, theme, order."""
        return self.config / "screen.toml"

    @property
    def socket(self) -> Path:
        """The control socket, mode 0600."""
        return self.state / "kernel.sock"

    @property
    def holder_socket(self) -> Path:
        """Where the holder of the gateway's listening sockets answers, mode 0600."""
        return self.state / "holder.sock"

    @property
    def lock(self) -> Path:
        """Locked (flock) by the one kernel of this state directory."""
        return self.state / "kernel.lock"

    @property
    def journal(self) -> Path:
        """The SQLite file that holds the journal."""
        return self.state / "journal.db"

    @property
    def mail(self) -> Path:
        """The SQLite file that holds the messages on their way."""
        return self.state / "mail.db"

    @property
    def mcp(self) -> Path:
        """The socket of the MCP server, which the gateway speaks to; mode 0600."""
        return self.state / "mcp.sock"

    @property
    def memory(self) -> Path:
        """The SQLite file that holds the three memory tiers."""
        return self.state / "memory.db"

    @property
    def transcripts(self) -> Path:
        """The SQLite file that remembers what the agent CLIs' transcripts told; a cache, mode 0600."""
        return self.state / "transcripts.db"

    @property
    def key(self) -> Path:
        """The state key (32 random bytes, mode 0600) that agents' secrets are derived from."""
        return self.state / "key"

    @property
    def port(self) -> Path:
        """The gateway's port, chosen once per state directory."""
        return self.state / "port"

    @property
    def log(self) -> Path:
        """The kernel's log file; rotated."""
        return self.state / "kernel.log"

    @property
    def agents(self) -> Path:
        """One folder per agent, one below it per run."""
        return self.state / "agents"

    @property
    def worktrees(self) -> Path:
        """One folder per agent that has a git worktree of its own; outlives the agent if work is in it."""
        return self.state / "worktrees"

    def agent_dir(self, agent: str) -> Path:
        """The folder of one agent: its environment (0600) and its runs."""
        return self.agents / agent

    def run_dir(self, agent: str, number: int) -> Path:
        """The folder of one run: ``pid``, ``exit``, ``out``, ``err``, ``stdin``."""
        return self.agents / agent / str(number)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Paths:
        """The paths that this environment asks for. Touches nothing on disk."""
        env = os.environ if environ is None else environ
        home = env.get("AGENTTOP_HOME")
        if home:
            root = Path(home).expanduser().absolute()
            return cls(config=root, state=root / "state")
        user = Path(env.get("HOME") or "~").expanduser()
        config = Path(env.get("XDG_CONFIG_HOME") or user / ".config")
        state = Path(env.get("XDG_STATE_HOME") or user / ".local" / "state")
        return cls(config=(config / APP).absolute(), state=(state / APP).absolute())

    def make_state(self) -> None:
        """Create the state folders with mode 0700.

        Raises:
            AgentTopError: The folder cannot be created or written.
        """
        try:
            for folder in (self.state, self.agents):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.state.chmod(0o700)
        except OSError as error:
            raise AgentTopError(
                f"cannot use the state folder {self.state}",
                error.strerror or str(error),
                "Set AGENTTOP_HOME to a folder you can write",
            ) from error
        if not os.access(self.state, os.W_OK | os.X_OK):
            raise AgentTopError(
                f"cannot write the state folder {self.state}",
                "No write permission",
                "Set AGENTTOP_HOME to a folder you can write",
            )
