"""Journal rows in a person's words: the text of the events pane, ``events`` and toasts."""

from __future__ import annotations

from ..agents.agent import IDLE
from ..agents.states import Pause
from ..api import EventInfo
from ..budget.amount import said
from . import events as ev
from .events import Event, Record

#: Kinds that are noise to a person who looks at the fleet; ``events`` shows them all the same.
QUIET = frozenset(
    {"CallProgressed", "RunStarting", "CallReleased", "RequestPassed", "WorktreePlanned"}
    | {"MailSealed", "ProgressReported"}
)


def describe(event: Event) -> str:
    """One line, without the agent's name and without a full stop."""
    match event:
        case ev.KernelStarted():
            return f"kernel {event.version} started, pid {event.pid}"
        case ev.KernelStopped():
            return f"kernel stopped{_because(event.reason)}"
        case ev.AgentCreated():
            return f"created, {event.spec.backend}" + (
                f", from {event.spec.template}" if event.spec.template else ""
            )
        case ev.AgentChanged():
            return "declaration changed"
        case ev.AgentRemoved():
            return "removed"
        case ev.WorktreePlanned():
            return f"gets a worktree in {event.path}"
        case ev.WorktreeMade():
            return f"worktree made in {event.path}, branch {event.branch}"
        case ev.WorktreeLeft():
            return _left(event)
        case ev.FolderShared():
            with_whom = f"works with {_others(event)}" if event.agent else f"{_others(event)} work"
            return f"{with_whom} in one folder: {event.folder}"
        case ev.NiceChanged():
            return f"nice {event.nice}{_by(event.by)}"
        case ev.RunStarting():
            return f"run {event.run} starting ({event.reason})"
        case ev.RunStarted():
            pid = event.ref.get("pid")
            return f"run {event.run} started" + (f", pid {pid}" if pid else "")
        case ev.RunReady():
            return f"run {event.run} is up"
        case ev.RunExited():
            return _exited(event)
        case ev.RestartScheduled():
            return f"restarts after failure {event.failures}"
        case ev.RestartGivenUp():
            return f"{event.failures} failures in a row, no restart left"
        case ev.StopRequested():
            return f"{event.how} asked for{_by(event.by)}"
        case ev.KillProven():
            proof = f"{event.ended}/{event.processes} processes ended, {len(event.survivors)} survivors"
            return f"{proof}, {event.mechanism}, {event.seconds:.1f} s"
        case ev.TerminalAttached():
            return f"attached to its terminal{_by(event.by)}"
        case ev.TerminalTyped():
            return f"typed into its terminal{_by(event.by)}"
        case ev.AgentPaused():
            return _paused(event)
        case ev.AgentResumed():
            return f"resumed{_by(event.by)}"
        case ev.InputAwaited():
            return "waits for input" + (f": {event.detail}" if event.detail else "")
        case ev.InputGiven():
            return "goes on after input"
        case ev.ObservedEvent():
            return _observed(event)
        case _:
            return _call(event)


def _observed(event: ev.ObservedEvent) -> str:
    match event:
        case ev.ObservedPaused() if not event.total:
            done = "freeze asked for"
        case ev.ObservedPaused():
            done = f"frozen {event.frozen}/{event.total}, {event.mechanism}"
        case ev.ObservedResumed():
            done = event.detail or "resumed"
        case ev.ObservedStopRequested():
            done = f"{event.how} asked for"
        case ev.ObservedKillProven():
            proof = f"{event.ended}/{event.processes} processes ended, {len(event.survivors)} survivors"
            done = f"{proof}, {event.mechanism}, {event.seconds:.1f} s"
        case ev.ObservedSignalled():
            done = f"signal {event.signal} sent to {event.processes}"
        case ev.ObservedReniced():
            done = f"nice {event.nice} for {event.processes} processes"
        case _:
            done = event.kind
    return f"observed: {done}{_by(event.by)}"


def _left(event: ev.WorktreeLeft) -> str:
    if event.kept:
        return f"its worktree stays in {event.path}, branch {event.branch}: {event.kept}"
    return "worktree removed" + (f", its branch {event.branch} stays" if event.branch_kept else "")


def _others(event: ev.FolderShared) -> str:
    more = event.count - len(event.names)
    return ", ".join(event.names) + (f" and {more} more" if more > 0 else "")


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _by(who: str) -> str:
    return f" by {who}" if who else ""


def _exited(event: ev.RunExited) -> str:
    if event.cause in ("stopped", "killed"):
        how: str = event.cause
    elif event.signal is not None:
        how = f"ended by signal {event.signal}"
    elif event.cause == "reboot":
        how = "ended with the machine's reboot"
    elif event.cause == "start_failed":
        how = "could not start"
    else:
        how = "ended, exit status unknown" if event.code is None else f"exited {event.code}"
    return f"run {event.run} {how}{_because(event.detail)}"


def _paused(event: ev.AgentPaused) -> str:
    if event.how is Pause.HOLD:
        return f"held{_by(event.by)}: its next model call waits"
    who = ", it is idle" if event.by == IDLE else _by(event.by)
    if not event.total:
        return f"freezing{who}"
    proof = f"{event.frozen}/{event.total} processes, {event.mechanism}, {event.seconds * 1000:.0f} ms"
    return f"frozen{who}: {proof}"


def _call(event: Event) -> str:
    match event:
        case ev.CallStarted():
            return f"call to {event.model or event.provider}"
        case ev.CallProgressed():
            return f"call: {event.usage.output} tokens out so far"
        case ev.CallHeld():
            return "call held" + (f": {event.reason}" if event.reason else "") + _because(event.detail)
        case ev.CallReleased():
            return "call released"
        case ev.CallSettled():
            usage = event.usage
            about = "" if event.exact else "~"
            money = "unpriced" if event.cost_usd is None else f"${about}{event.cost_usd:.3f}"
            tokens = (
                f"{usage.input} in, {usage.cache_read} read, {usage.cache_write} written, {usage.output} out"
            )
            ended = (
                ""
                if event.outcome == "ok"
                else f", {event.outcome.replace('_', ' ')}"
                + (f" {event.status}" if event.status and event.outcome == "error" else "")
            )
            return f"call {event.model or event.provider}: {tokens}, {money}{ended}"
        case ev.CallThrottled():
            what = f"answered {event.status}" if event.status is not None else "was not reached"
            again = "" if event.retry_after is None else f", retry after {event.retry_after:.0f} s"
            return f"{event.provider} {what}{again}: the call waits for another turn"
        case ev.RequestPassed():
            return f"{event.method} {event.path} passed to {event.provider}" + (
                f", {event.status}" if event.status is not None else ""
            )
        case _:
            return _money(event)


def _money(event: Event) -> str:
    match event:
        case ev.BudgetSet():
            return f"budget {event.budget.name} set: {_limit(event)}{_by(event.by)}"
        case ev.BudgetRemoved():
            return f"budget {event.name} removed{_by(event.by)}"
        case ev.BudgetExtended():
            return f"budget {event.name} extended by {_amounts(event.usd, event.tokens)}{_by(event.by)}"
        case ev.BudgetWarned():
            return f"budget {event.name}: {event.used:.0%} used"
        case ev.BudgetBreached():
            return f"budget {event.name} breached, {event.action}{_because(_short(event))}"
        case ev.ApprovalRequested():
            return f"asks: {event.question}"
        case ev.ApprovalAnswered():
            return _answered(event)
        case ev.FleetHalted():
            return f"halted{_by(event.by)}: every call is held, every agent frozen"
        case ev.FleetUnhalted():
            return f"unhalted{_by(event.by)}"
        case ev.BreakerMoved():
            return f"breaker of {event.provider} {event.state}{_because(event.why)}"
        case _:
            return _mail(event)


def _mail(event: Event) -> str:
    match event:
        case ev.MailSealed():
            return f"mail m{event.first} to m{event.last} sealed, {event.count} messages"
        case ev.MailDied():
            what = f"m{event.message} from {event.sender}"
            more = f" and {event.count - 1} more are dead letters" if event.count > 1 else " is a dead letter"
            return f"{what}{more} of {event.name}: {event.reason}"
        case ev.DeadlockFound():
            ring = " → ".join([*event.names, *event.names[:1]])
            return f"deadlock, each waits for the next: {ring}" + (
                "; the youngest request was ended" if event.broken else ""
            )
        case ev.ProgressReported():
            share = "" if event.percent is None else f"{event.percent:.0f}%"
            return "says: " + " ".join(part for part in (share, event.text) if part)
        case _:
            return _memory(event)


def _memory(event: Event) -> str:
    match event:
        case ev.MemoryMoved():
            times = f" in {event.count} moves" if event.count > 1 else ""
            return f"memory: {event.tokens:,} tokens went from {event.source} to {event.target}{times}"
        case ev.MemoryForgotten():
            counts = (("block", event.blocks), ("entr", event.entries), ("note", event.notes))
            gone = ", ".join(_counted(what, number) for what, number in counts if number)
            return f"memory: {gone} forgotten for good{_by(event.by)}"
        case ev.MemoryExpired():
            return f"memory: {_counted('entr', event.entries)} expired"
        case _:
            return event.kind


def _counted(what: str, number: int) -> str:
    if what == "entr":
        return f"{number:,} entr{'y' if number == 1 else 'ies'}"
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _amounts(usd: float | None, tokens: int | None) -> str:
    found = [said(usd)] if usd else []
    found += [f"{tokens:,} tokens"] if tokens else []
    return " and ".join(found) or "nothing"


def _limit(event: ev.BudgetSet) -> str:
    budget = event.budget
    usd = None if budget.usd is None else float(budget.usd)
    window = "in all" if budget.window == "total" else f"a {budget.window}"
    covered = budget.scope if not budget.target else f"{budget.scope} {budget.target}"
    return f"{_amounts(usd, budget.tokens)} {window} for {covered}, then {budget.action}"


def _short(event: ev.BudgetBreached) -> str:
    parts = []
    if event.needed_usd is not None:
        parts.append(f"needs up to {said(event.needed_usd)}, {said(event.left_usd or 0)} left")
    if event.needed_tokens is not None:
        parts.append(f"needs up to {event.needed_tokens:,} tokens, {event.left_tokens or 0:,} left")
    return "; ".join(parts)


_ANSWERS = {
    "once": "one call let through",
    "extend": "budget extended",
    "allow": "allowed to go on",
    "deny": "refused",
    "kill": "killed",
    "withdrawn": "needs no answer any more",
}


def _answered(event: ev.ApprovalAnswered) -> str:
    return f"question {event.approval}: {_ANSWERS[event.answer]}{_by(event.by)}"


def info(record: Record, name: str | None) -> EventInfo:
    """A record as people's side of the door sees it; kinds of a newer version keep their body."""
    import orjson

    event = record.event()
    if name is None and isinstance(event, ev.ObservedEvent):
        name = event.name
    text = describe(event) if event is not None else record.kind
    return EventInfo(record.seq, record.ts, record.kind, record.agent, name, orjson.loads(record.body), text)
