"""The smoothness term: what it costs, and how it follows its weight."""

from __future__ import annotations

import pytest
import torch

from difftop_ros.costs import CostTerm, Smoothness


def test_it_is_the_mean_squared_acceleration() -> None:
    term = Smoothness(rate_hz=10.0, weight=0.5)
    assert isinstance(term, CostTerm)
    time = torch.arange(6, dtype=torch.float64) / 10
    commands = torch.stack([1.5 * time.square(), 4 * time - 1], dim=1)[None].repeat(2, 1, 1)  # 3 and 0 rad/s^2
    weight = term.data[0].double().expand(2) * torch.tensor([1.0, 2.0])
    cost = term(commands, weight)
    assert cost.tolist() == pytest.approx([0.5 * 0.5 * 4.5, 0.5 * 1.0 * 4.5])


def test_a_short_plan_costs_nothing_and_the_weight_is_read_anew() -> None:
    term = Smoothness(rate_hz=10.0)
    term.weight = 3.0
    assert float(term.data[0]) == 3.0
    commands = torch.randn(1, 2, 3, requires_grad=True)
    assert float(term(commands, torch.ones(1)).detach()) == 0.0
    with pytest.raises(ValueError, match="weight is -1; expected 0 or more"):
        term.weight = -1
    with pytest.raises(ValueError, match="rate_hz is 0; expected more than 0"):
        Smoothness(rate_hz=0)
