"""Budgets as people write them: one line, a table, a fleet file, the configuration."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agenttop.core import config, fleetfile
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.budget.cover import FLEET_LABEL, Traits, fits
from agenttop.core.budget.prices import Prices
from agenttop.core.errors import ConfigError
from agenttop.core.journal.events import Usage
from agenttop.core.paths import Paths


def spec(budget: Any) -> AgentSpec:
    return AgentSpec.model_validate({"name": "a", "command": ["x"], "budget": budget})


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("$5", {"usd": Decimal(5), "window": "total", "action": "ask"}),
        ("$0.50/day", {"usd": Decimal("0.50"), "window": "day"}),
        ("2M tokens/hour deny", {"tokens": 2_000_000, "window": "hour", "action": "deny"}),
        ("1.5k tok / task kill", {"tokens": 1_500, "window": "task", "action": "kill"}),
    ],
)
def test_a_line_says_limit_window_and_action(text: str, fields: dict[str, Any]) -> None:
    budget = spec(text).budget
    assert budget is not None
    assert {name: getattr(budget, name) for name in fields} == fields


@pytest.mark.parametrize(
    "wrong",
    [
        *("5", "$", "$5 tokens", "$5/week", "-$5", "$0", "$5/day sometimes"),
        *({"window": "day"}, {"usd": 1, "zone": "Nowhere"}, {"usd": 1, "rolling": True}),
        *({"usd": "NaN"}, {"tokens": 0}),
    ],
)
def test_what_is_no_budget_is_refused_before_anything_runs(wrong: Any) -> None:
    with pytest.raises(ValidationError):
        spec(wrong)


def fleet(tmp_path: Path, text: str) -> fleetfile.FleetFile:
    file = tmp_path / "fleet.toml"
    file.write_text(text + '\n[agents.api]\ncommand = "x"\n')
    return fleetfile.load(file)


def test_a_fleet_files_budget_covers_its_own_agents_whatever_its_path_is_called(tmp_path: Path) -> None:
    odd = tmp_path / "a,b=c d"
    odd.mkdir()
    found = fleet(odd, '[budgets]\nnight = "$5/day"\n')
    (budget,) = found.budgets
    assert budget.scope == "label"
    assert list(budget.labels()) == [FLEET_LABEL]
    assert fits(budget, Traits(None, "ana", {}, str(found.path)))
    assert not fits(budget, Traits(None, "ana", {}, str(tmp_path / "fleet.toml")))
    assert not fits(budget, Traits(None, "ana", {FLEET_LABEL: budget.labels()[FLEET_LABEL]}, None))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('[budgets]\nx = "$5/weak"', "line 2: budgets.x.limit"),
        ("[budgets.x]\nusd = 5\nscope = 'agent'\ntarget = 'web'", "line 4: budgets.x.target: 'web'"),
        ("[budgets.x]\nusd = 5\nscope = 'fleet'", "line 3: budgets.x.scope"),
        ("[budgets.x]\nusd = -5", "line 2: budgets.x.usd"),
        ("[budgets.x]\nusd = 5\nwindows = 'day'", "line 3: budgets.x.windows"),
        ("budgets = 5", "budgets: this is a table"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        fleet(tmp_path, text)


def loaded(home: Path, text: str) -> config.Config:
    paths = Paths.from_environ()
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text(text)
    return config.load(paths)


def test_the_configuration_has_budgets_beside_what_becomes_of_unpriced_calls(home: Path) -> None:
    found = loaded(
        home,
        '[budgets]\nunpriced = "ask"\nall = "$9"\n'
        '[budgets.team]\ntokens = 5\nscope = "label"\ntarget = "team=api"\n',
    ).budgets
    assert found.unpriced == "ask"
    assert [(budget.name, budget.scope, budget.target) for budget in found.declared] == [
        ("all", "fleet", ""),
        ("team", "label", "team=api"),
    ]
    with pytest.raises(ConfigError, match=r"line 2: budgets.unpriced"):
        loaded(home, '[budgets]\nunpriced = "perhaps"\n')
    with pytest.raises(ConfigError, match=r"line 1: budgets.x: .team. is not a label selector"):
        loaded(home, '[budgets.x]\ntarget = "team"\nscope = "label"\nusd = 1\n')


def test_own_prices_go_before_lists_by_the_longest_pattern_that_matches(home: Path) -> None:
    found = loaded(
        home,
        '[models."local-*"]\ninput = 1\noutput = 2\n[models."vllm/local-big"]\ninput = 10\noutput = 20\n'
        "context = 5000\n[models.sized]\nmax_output = 77\n",
    )
    prices = Prices(found.prices())
    usage = Usage(input=1_000_000, cache_read=1_000_000, output=1_000_000)
    assert prices.quote("vllm", "local-small", usage).cost == 4.0
    assert prices.quote("vllm", "local-big", usage) == (40.0, 5_000)
    assert prices.quote("other", "local-big", usage) == (4.0, None)
    sized = prices.own("vllm", "sized")
    assert sized is not None
    assert sized.max_output == 77
    assert prices.quote("vllm", "sized", usage).cost is None
