"""What ``--host`` may name, which ssh command that is, and what its failures are told as."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.errors import ConfigError, UsageError
from agenttop.core.hosts import address
from agenttop.core.hosts.address import Reach, parse
from agenttop.core.hosts.dial import HostRefused, NotThere, ended
from agenttop.core.paths import Paths


def one(text: str) -> address.Address:
    (found,) = parse([text])
    return found


@pytest.mark.parametrize(
    ("text", "label", "target", "port"),
    [
        ("box", "box", "box", None),
        ("ana@box", "box", "ana@box", None),
        ("ana@box:2222", "box", "ana@box", 2222),
        ("ssh://ana@box.example.org:22/", "box.example.org", "ana@box.example.org", 22),
        ("ana@[::1]:2222", "::1", "ana@::1", 2222),
        ("10.0.0.7", "10.0.0.7", "10.0.0.7", None),
    ],
)
def test_hosts_are_written_as_for_ssh(text: str, label: str, target: str, port: int | None) -> None:
    found = one(text)
    assert (found.label, found.target, found.port) == (label, target, port)


@pytest.mark.parametrize(
    "text",
    ["", "-oProxyCommand=touch /tmp/x", "ana@-x", "a b", "a/b", "a:0", "a:99999", "a:b", "@box", "a\nb"],
)
def test_what_cannot_be_a_host_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse([text])


def test_labels_tell_hosts_apart() -> None:
    found = parse(["ana@box", "bob@box", "shed", "ana@box", "local"])
    assert [one.label for one in found] == ["ana@box", "bob@box", "shed", "local"]
    assert [one.local for one in found] == [False, False, False, True]


def test_a_command_never_asks_unless_it_may() -> None:
    quiet = address.bridge_argv(one("box:22"), Reach(("ssh", "-v")), asks=False)
    assert quiet[:2] == ["ssh", "-v"]
    assert "BatchMode=yes" in quiet
    assert not [word for word in quiet if "StrictHostKeyChecking" in word]
    assert quiet[-4:-1] == ["22", "--", "box"]
    assert "BatchMode=no" in address.bridge_argv(one("box"), Reach(), asks=True)


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1, max_size=6))
def test_what_is_run_over_there_arrives_word_by_word(words: list[str]) -> None:
    argv = address.terminal_argv(one("box"), Reach(), ["printf", r"%s\0", *words])
    assert "-t" in argv
    assert "-T" not in argv
    # ssh hands one word to the login shell there.
    said = subprocess.run(["/bin/sh", "-c", argv[-1]], capture_output=True, check=True).stdout
    assert said == b"".join(word.encode() + b"\0" for word in words)


def test_a_configured_command_is_found_by_the_host_s_name(home: Path) -> None:
    home.mkdir()
    paths = Paths.from_environ()
    paths.config_file.write_text(
        '[remote]\nssh = ["ssh", "-F", "my config"]\n[remote.box]\ncommand = "A=1 /opt/agenttop"\n'
    )
    found = address.reach(paths, {})
    assert found.ssh == ("ssh", "-F", "my config")
    assert "A=1 /opt/agenttop kernel bridge" in address.bridge_argv(one("ana@box:7"), found, asks=False)[-1]
    assert "command -v agenttop" in address.bridge_argv(one("shed"), found, asks=False)[-1]
    assert address.reach(paths, {"AGENTTOP_SSH": "ssh -J 'a b'"}).ssh == ("ssh", "-J", "a b")
    with pytest.raises(UsageError, match="AGENTTOP_SSH"):
        address.reach(paths, {"AGENTTOP_SSH": "ssh 'x"})
    paths.config_file.write_text("[remote.box]\ncomand = 'x'\n")
    with pytest.raises(ConfigError, match=r"line 2: remote\.box\.comand"):
        address.reach(paths, {})


def test_agenttop_runs_over_there_as_if_typed() -> None:
    argv = address.agenttop_argv(one("box"), Reach(), ["kernel", "log", "-n", "3 4"], terminal=False)
    assert shlex.split(argv[-1])[:3] == ["exec", "sh", "-c"]
    assert "agenttop kernel log -n '3 4'" in shlex.split(argv[-1])[3]


@pytest.mark.parametrize(
    ("status", "said", "kind", "words"),
    [
        (255, "ana@box: Permission denied (publickey,password).", HostRefused, "did not let us in"),
        (255, "Host key verification failed.", HostRefused, "never left out"),
        (127, "agenttop-is-not-here", NotThere, "pipx install agenttop"),
        (127, "sh: 1: /opt/x: not found", NotThere, "/opt/x"),
        (2, "agenttop: No such command 'bridge'.", NotThere, "too old"),
    ],
)
def test_what_only_a_person_can_change_is_told_as_that(
    status: int, said: str, kind: type[Exception], words: str
) -> None:
    error = ended(one("ana@box"), status, said.encode())
    assert type(error) is kind
    assert words in str(error)


def test_a_network_that_is_down_is_worth_another_try() -> None:
    error = ended(one("box"), 255, b"banner\nssh: connect to host box port 22: No route to host\n")
    assert not isinstance(error, (HostRefused, NotThere))
    assert "No route to host" in str(error)
    assert "ssh box" in str(error)


def test_a_host_that_is_written_in_two_ways_is_one() -> None:
    assert [one.label for one in parse(["box", "ssh://box", "box/", "box:22"])] == ["box", "box:22"]


@pytest.mark.parametrize(
    "text", ["$(id)@box", "`id`", "box;id", "a|b", "ana@box&", "a'b", 'a"b', "{a}", "a\\b"]
)
def test_what_a_shell_would_run_is_no_host(text: str) -> None:
    """A ProxyCommand, or a Match exec, of ssh's configuration may pass the name to a shell."""
    with pytest.raises(UsageError, match="is not a host"):
        parse([text])
