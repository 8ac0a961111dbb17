"""The ready-made forms and the problem itself: values, data per time step, and one sentence per bad input."""

import dataclasses
from typing import Any

import pytest
import torch
from gpu import needs_gpu
from torch import Tensor

from difftop_ros.trajopt import ActionChunk, LatentRollout, Problem, SolverOptions, Tracking, TrajoptError, solve

B, H, A, Z = 3, 4, 2, 5


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MIX, PUSH = normal(Z, Z, seed=1) / Z, normal(A, Z, seed=2)


def dynamics(z: Tensor, a: Tensor, *rest: Tensor) -> Tensor:
    return torch.tanh(z @ MIX + a @ PUSH)


def reward(z: Tensor, a: Tensor, *rest: Tensor) -> Tensor:
    return z[:, 0] - a.square().sum(1)


def value(z: Tensor, *rest: Tensor) -> Tensor:
    return 3 * z.sum(1)


def problem(objective: Any, *context: Tensor, **changes: Any) -> Problem:
    bound = torch.ones(H, A, dtype=torch.float64)
    return dataclasses.replace(Problem(objective, context, -bound, bound), **changes)


ZEROS = torch.zeros(B, H, A, dtype=torch.float64)


@pytest.mark.parametrize("end", [value, None])
def test_a_rollout_is_its_sum_written_out(end: Any) -> None:
    form, actions, start = LatentRollout(dynamics, reward, end, 0.9), normal(B, H, A), normal(B, Z, seed=3)
    states, total = [start], torch.zeros(B, dtype=torch.float64)
    for step in range(H):
        total = total + 0.9**step * (states[-1][:, 0] - actions[:, step].square().sum(1))
        states.append(torch.tanh(states[-1] @ MIX + actions[:, step] @ PUSH))
    if end is not None:
        total = total + 0.9**H * 3 * states[-1].sum(1)
    assert torch.allclose(form(actions, start), total, atol=1e-12)
    assert torch.allclose(form.states(actions, start), torch.stack(states, 1), atol=1e-12)


@pytest.mark.parametrize("end", [True, False])
def test_rewards_are_asked_for_at_once_and_data_per_time_step_reach_each_function(end: bool) -> None:
    seen: list[tuple[str, Tensor, Tensor]] = []

    def watch(name: str, function: Any) -> Any:
        def watched(*inputs: Tensor) -> Tensor:
            seen.append((name, *inputs[-2:]))
            return function(*inputs)

        return watched

    form = LatentRollout(watch("d", dynamics), watch("r", reward), watch("v", value) if end else None, timed=(1,))
    code, plan = normal(B, 7), normal(B, H + end, 2)
    form(normal(B, H, A), normal(B, Z), code, plan)
    assert [name for name, _, _ in seen] == ["d"] * H + ["r"] + ["v"] * end
    _, all_codes, all_plans = seen.pop(H)
    assert torch.equal(all_codes.view(B, H, 7), code[:, None].expand(B, H, 7))
    assert torch.equal(all_plans.view(B, H, 2), plan[:, :H])
    for step, (_, whole, now) in enumerate(seen):
        assert whole is code
        assert torch.equal(now, plan[:, step])


def test_chunk_and_tracking_values() -> None:
    actions, features = normal(B, H, A), normal(B, 2)
    assert torch.equal(
        ActionChunk(lambda a, f: a.sum((1, 2)) * f[:, 0])(actions, features), -actions.sum((1, 2)) * features[:, 0]
    )
    found = Tracking(lambda a, f: a.flatten(1) - f.repeat(1, H))(actions, features)
    assert torch.allclose(found, -0.5 * (actions - features[:, None]).square().sum((1, 2)))


START = normal(B, Z)
WRONG = [
    (
        problem(LatentRollout(lambda z, a: z[:, 1:], reward), START),
        r"dynamics returned shape \(3, 4\); expected shape \(3, 5\)",
    ),
    (problem(LatentRollout(lambda z, a: (z, a), reward), START), r"dynamics returned a tuple; expected shape \(3, 5\)"),
    (
        problem(LatentRollout(dynamics, lambda z, a: z[:, :1]), START),
        r"reward returned shape \(12, 1\); expected shape \(12,\), one number per sample and time step",
    ),
    (problem(LatentRollout(dynamics, lambda z, a: 0.0), START), r"reward returned a float; expected shape \(12,\)"),
    (
        problem(LatentRollout(dynamics, reward, lambda z: z), START),
        r"value returned shape \(3, 5\); expected shape \(3,\)",
    ),
    (problem(LatentRollout(dynamics, reward), START[:, None]), r"latent state \(context 0\) has shape \(3, 1, 5\)"),
    (problem(LatentRollout(dynamics, reward, timed=(0,)), START), "timed names entry 0 .* which has 0"),
    (
        problem(LatentRollout(dynamics, reward, timed=(0,)), START, normal(B, H + 1)),
        r"\(3, 5\); expected \(batch, 4, ...\)",
    ),
    (
        problem(LatentRollout(dynamics, reward, value, timed=(0,)), START, normal(B, H)),
        r"timed context 1 has shape \(3, 4\); expected \(batch, 5, ...\), one entry per step and one for the terminal",
    ),
    (problem(ActionChunk(lambda a: a.sum(2))), r"cost returned shape \(3, 4\); expected shape \(3,\)"),
    (problem(Tracking(lambda a: a)), r"residuals returned shape \(3, 4, 2\); expected \(3, R\)"),
    (problem(Tracking(lambda a: a.flatten(1)[:1])), r"residuals returned shape \(1, 8\); expected \(3, R\)"),
    (problem(lambda a: a.detach().sum((1, 2))), "no graph back to the actions"),
    (problem(lambda a, x: x.sum(1), normal(B, 2).requires_grad_()), "no graph back to the actions"),
    (problem(lambda a: a.sum()), r"objective returned shape \(\); expected \(3,\)"),
    (problem(lambda a: -a.square().sum((1, 2)), lower=ZEROS + torch.nan), "a bound is NaN"),
    (problem(lambda a: -a.square().sum((1, 2)), lower=ZEROS + 2), "lower bound lies above its upper"),
    (problem(lambda a: -a.square().sum((1, 2)), upper=ZEROS + torch.inf, lower=ZEROS + torch.inf), "no finite action"),
    (problem(lambda a: -a.square().sum((1, 2)), upper=(ZEROS + 1).float()), "upper is torch.float32"),
    (problem(lambda a: -a.square().sum((1, 2)), upper=ZEROS[:, :3] + 1), "upper has shape .* does not broadcast"),
    (problem(lambda a: -a.square().sum((1, 2)), reference=ZEROS[:2]), "reference has shape .* does not broadcast"),
    (problem(lambda a, x: -a.square().sum((1, 2)), normal(2, 5)), r"context 0 has shape \(2, 5\); expected batch 3"),
    (problem(lambda a, x: -a.square().sum((1, 2)), [1.0] * 3), "context 0 is a list"),
]


@pytest.mark.parametrize(("bad", "says"), WRONG, ids=[says[:40] for _, says in WRONG])
@pytest.mark.parametrize("method", ["qn", "newton"])
def test_what_does_not_fit_is_one_sentence_naming_it(bad: Problem, says: str, method: str) -> None:
    with pytest.raises(TrajoptError, match=says):
        solve(bad, ZEROS, SolverOptions(method=method))


def test_ilqr_says_what_does_not_fit_as_well() -> None:
    for bad, says in WRONG:
        if isinstance(bad.objective, LatentRollout):
            with pytest.raises(TrajoptError, match=says):
                solve(bad, ZEROS, SolverOptions(method="ilqr"))


def test_what_cannot_be_a_problem_is_said_when_it_is_made() -> None:
    for changes, says in [
        ({"lower": -1.0}, "lower is a float"),
        ({"upper": [1.0]}, "upper is a list"),
        ({"proximal": -1.0}, "proximal is -1.0"),
        ({"proximal": float("nan")}, "proximal is nan"),
        ({"proximal": 1.0}, "no reference"),
    ]:
        with pytest.raises(TrajoptError, match=says):
            problem(reward, **changes)
    with pytest.raises(TrajoptError, match="discount is 0"):
        LatentRollout(dynamics, reward, discount=0)


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (ZEROS[:0], "none 0"),
        (ZEROS[0], r"shape \(4, 2\); expected \(batch, horizon, joints\)"),
        (ZEROS.half(), "dtype torch.float16; expected float32 or float64"),
        (ZEROS.float(), "convert one to the other"),
    ],
)
def test_an_unusable_start_is_one_sentence(start: Tensor, says: str) -> None:
    with pytest.raises(TrajoptError, match=says):
        solve(problem(lambda a: -a.square().sum((1, 2))), start)


@needs_gpu
def test_tensors_on_two_devices_are_one_sentence() -> None:
    with pytest.raises(TrajoptError, match="context 0 is on cuda:0"):
        solve(problem(lambda a, x: -a.square().sum((1, 2)), normal(B, 2).cuda()), ZEROS)


def test_select_repeat_and_detached_keep_each_samples_own_data() -> None:
    lower = -1 - normal(B, H, A).abs()
    given = problem(
        lambda a, x: (a * x[:, None]).sum((1, 2)),
        normal(B, A).requires_grad_(),
        lower=lower,
        reference=normal(B, H, A),
        proximal=0.5,
    )
    actions = normal(B, H, A, seed=4)
    cost = given.cost(actions).detach()
    assert torch.equal(given.select(torch.tensor([2, 0])).cost(actions[[2, 0]]), cost[[2, 0]])
    assert torch.equal(given.select(torch.tensor([False, True, False])).lower, lower[1:2])
    twice = given.repeat(B, 2)
    assert torch.equal(twice.cost(actions.repeat_interleave(2, 0)), cost.repeat_interleave(2))
    assert torch.equal(twice.lower[1], lower[0]) and twice.upper is given.upper
    assert not given.detached().cost(actions).requires_grad and given.cost(actions).requires_grad


def test_value_and_gradient_with_a_graph_reach_the_context() -> None:
    x = normal(B, A).requires_grad_()
    given = problem(lambda a, x: -(a.square() * x[:, None]).sum((1, 2)), x)
    plain = given.value_and_gradient(normal(B, H, A))
    kept = given.value_and_gradient(normal(B, H, A), graph=True)
    assert not plain[0].requires_grad and not plain[1].requires_grad
    assert torch.equal(plain[1], kept[1].detach())
    (found,) = torch.autograd.grad(kept[1].sum(), x)
    assert torch.allclose(found, 2 * normal(B, H, A).sum(1))
