"""Kill -9 of the kernel while agents race for a budget: what is spent never passes it, whoever counts."""

from __future__ import annotations

import os
import signal
import sys
from decimal import Decimal

import anyio
import pytest

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import BudgetInfo, BudgetRequest, FleetRequest
from agenttop.core.budget import prices
from agenttop.core.budget.budget import Budget
from agenttop.core.client import KernelClient
from agenttop.core.connect import connect
from agenttop.core.journal.events import Usage
from agenttop.core.paths import Paths
from agenttop.tui.demo.provider import MockProvider

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

AGENTS = 10
KILLS = 3
LIMIT = 0.10
MODEL = "claude-haiku-4-5"

#: Calls of at most 400 tokens out until one is refused with 402; anything else is tried again.
CALLER = """
import http.client, json, os, sys, time
from urllib.parse import urlsplit
url = urlsplit(os.environ["ANTHROPIC_BASE_URL"])
text = f"[[mock:output=200]] go on, {sys.argv[1]}"
body = json.dumps({"model": sys.argv[2], "max_tokens": 400, "stream": True,
                   "messages": [{"role": "user", "content": text}]})
headers = {"content-type": "application/json", "anthropic-version": "2023-06-01", "x-api-key": "none"}
status = 0
while status != 402:
    try:
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
        connection.request("POST", f"{url.path}/v1/messages", body, headers)
        response = connection.getresponse()
        status = response.status
        response.read()
        connection.close()
    except (OSError, http.client.HTTPException):
        time.sleep(0.05)
"""


async def complete(provider: MockProvider, calls: int) -> None:
    """Wait until so many more calls were answered and some are on their way."""
    wanted = len(provider.truth.entries) + calls
    with anyio.fail_after(60):
        while len(provider.truth.entries) < wanted or not any(
            entry.outcome == "running" for entry in provider.truth.entries
        ):
            await anyio.sleep(0.01)


def billed(provider: MockProvider) -> float:
    """What the provider would really bill, in USD."""
    found = 0.0
    for entry in provider.truth.entries:
        cost = prices.price("anthropic", MODEL, Usage(*entry.usage))
        assert cost is not None
        found += cost
    return found


async def the_budget(client: KernelClient) -> BudgetInfo:
    (info,) = await client.budgets()
    return info


async def test_a_budget_holds_over_any_number_of_killed_kernels(paths: Paths, provider: MockProvider) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": "/tmp"}
    specs = [
        AgentSpec(name=f"a{n}", command=[sys.executable, "-S", "-c", CALLER, f"a{n}", MODEL], cwd="/tmp")
        for n in range(AGENTS)
    ]
    async with await connect(paths) as client:
        budget = Budget(name="cap", usd=Decimal(str(LIMIT)), action="deny")
        await client.set_budget(BudgetRequest(budget=budget))
        await client.up(FleetRequest(fleet="/race", specs=specs, environ=environ))
    for _ in range(KILLS):
        async with await connect(paths) as client:
            await complete(provider, 10)
            kernel = (await client.status()).pid
            os.kill(kernel, signal.SIGKILL)
        with anyio.fail_after(10):
            while os.path.exists(f"/proc/{kernel}"):
                await anyio.sleep(0.01)
    async with await connect(paths) as client:
        with anyio.fail_after(90):
            while await client.agents():
                await anyio.sleep(0.1)
        info = await the_budget(client)
        assert info.reserved_usd == 0
        assert info.spent_usd <= LIMIT
        assert info.spent_usd > LIMIT - 0.005, "all that is left is less than one call may need"
        infos = await client.agents(all=True)
        assert sum(agent.cost_usd or 0 for agent in infos) == pytest.approx(info.spent_usd, abs=1e-9)
        assert {agent.exit_code for agent in infos} == {0}
    # Calls that a kill cut are settled from what was seen of them, up to a second before.
    assert billed(provider) <= LIMIT + KILLS * AGENTS * 0.001
    assert billed(provider) > LIMIT - 0.01
