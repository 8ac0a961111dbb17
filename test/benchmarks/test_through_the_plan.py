"""Learning through the plan where the answer is known; the figure of the docs is made of more episodes and seeds."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="the extra [sim] is not installed")

from benchmarks import through_the_plan as known


def test_the_optimal_cost_is_that_of_no_other_gain() -> None:
    start = np.array([0.7, 0.0])

    def cost(gain: np.ndarray) -> float:
        x, total = start, 0.0
        for _ in range(known.LENGTH):
            u = -gain @ x
            assert abs(u[0]) < 1, "the bounds play no part"
            total += float(x @ known.Q @ x + u @ known.R @ u)
            x = known.A @ x + known.B @ u
        return total

    best = known.optimal_cost(start)
    costs = [cost(np.array([[p, v]])) for p in np.linspace(0.3, 1.2, 19) for v in np.linspace(0.1, 1.5, 19)]
    assert best < min(costs) < 1.02 * best


@pytest.mark.timeout(600)
def test_a_linear_quadratic_problem_is_solved_to_within_two_per_cent_and_the_loss_through_the_plan_keeps_out() -> None:
    """The model can be right and the values know less: with the loss or without, it comes to the same."""
    (_, plan, prior), *_ = known.linear_quadratic(30, every=30, plan_after=100)
    assert 1 - 1e-6 <= plan <= 1.02
    assert prior > 1 - 1e-6


@pytest.mark.timeout(600)
def test_where_the_model_cannot_be_right_only_the_loss_through_the_plan_makes_the_plan_better() -> None:
    ends = []
    for weight in (0.0, known.WEIGHT):
        curve = known.wrong_model(400, weight)
        ends.append(-np.mean([reward for _, reward in curve[-3:]]))
    assert 0.08 < ends[0] < 0.2, "the best fit of a parabola loses 0.12"
    assert ends[1] < 0.6 * ends[0]


def test_the_gradient_through_the_plan_is_that_of_finite_differences() -> None:
    measured, computed = known.gradients(5).T
    assert np.abs(measured).max() > 1e-4
    np.testing.assert_allclose(computed, measured, rtol=1e-3, atol=1e-6)
