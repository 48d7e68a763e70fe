"""What the signal menu offers: every way to make agents stop, and how each is asked of the kernel."""

from __future__ import annotations

from typing import NamedTuple

from agenttop.core.agents.states import ENDED, Pause, State
from agenttop.core.api import KillPlan, Outcome, PauseRequest, SignalRequest, StopRequest
from agenttop.core.client import KernelClient


class Choice(NamedTuple):
    """One entry of the menu."""

    id: str
    title: str
    note: str
    verb: str
    """What ``Enter`` does, said before the number of agents."""
    done: str
    """The same in the past tense, for a toast."""
    ends: bool = False
    """Whether the runs end, so that there is something to prove."""
    impossible: str = ""
    """Why it cannot be taken now."""


_SIGNALS = {"int": 2, "hup": 1, "usr1": 10, "usr2": 12}


def choices(plan: KillPlan, children: bool) -> list[Choice]:
    """The menu for a plan; ``children`` says whether the plan covers children of what was chosen."""
    offered = [
        Choice("stop", "15 TERM, then KILL", f"{plan.grace:g} s grace", "Kill", "killed", True),
        Choice("kill", "9 KILL", "at once", "Kill", "killed", True),
        Choice("int", "2 INT", "stop the turn", "Interrupt", "interrupted"),
        Choice("freeze", "freeze", "reversible", "Freeze", "frozen"),
        Choice("hold", "hold", "reversible", "Hold", "held"),
    ]
    if children:
        offered.append(
            Choice("only", f"only {plan.agents[0].name}", "its children run on", "Kill", "killed", True)
        )
    offered += [
        Choice("hup", "1 HUP", "read again", "Send HUP to", "got HUP"),
        Choice("usr1", "10 USR1", "the program's own", "Send USR1 to", "got USR1"),
        Choice("usr2", "12 USR2", "the program's own", "Send USR2 to", "got USR2"),
    ]
    return [choice._replace(impossible=_why_not(choice, plan)) for choice in offered]


def _why_not(choice: Choice, plan: KillPlan) -> str:
    agents = plan.agents
    if not agents:
        return "there is no such agent"
    if all(agent.state in ENDED for agent in agents):
        return "it has ended" if len(agents) == 1 else "they have ended"
    if reason := plan.impossible.get(choice.id):
        return reason
    if choice.id == "hold" and all(agent.observed for agent in agents):
        return "observed: its calls do not pass the gateway"
    if choice.id == "only" and any(agent.observed and agent.parent for agent in agents):
        return "observed: they are in its tree"
    if choice.id in ("freeze", "hold") and all(
        agent.state == State.PAUSED and agent.reason == choice.id for agent in agents
    ):
        return "already so"
    return ""


def below(plan: KillPlan, chosen: list[str], choice: str) -> list[str]:
    """Whom else a choice is asked of: the children of the chosen agents, by id.

    What ends or freezes an observed agent does it to its whole tree, and its children are in that.
    """
    whole = choice in ("stop", "kill", "freeze")
    return [agent.id for agent in plan.agents if agent.id not in chosen and not (whole and agent.observed)]


async def send(client: KernelClient, choice: str, refs: list[str], children: list[str]) -> list[Outcome]:
    """Do what was chosen to ``refs`` and, except for ``only``, to ``children``.

    Raises:
        AgentTopError: The kernel cannot be reached.
    """
    everything = [*refs, *children]
    match choice:
        case "stop":
            return await client.stop(StopRequest(refs=everything, how="stop"))
        case "kill":
            return await client.stop(StopRequest(refs=everything, how="kill", grace=0))
        case "only":
            return await client.stop(StopRequest(refs=refs, how="stop"))
        case "freeze":
            return await client.pause(PauseRequest(refs=everything, how=Pause.FREEZE))
        case "hold":
            return await client.pause(PauseRequest(refs=everything, how=Pause.HOLD))
        case _:
            return await client.signal(SignalRequest(refs=everything, signal=_SIGNALS[choice]))
