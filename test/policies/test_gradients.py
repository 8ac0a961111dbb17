"""Where the imitation loss sends its gradient, and where it must not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

PARTS = ("encoder", "base", "prior", "posterior", "cost")


def batch(policy: Any, frames: Any, rows: int = 6) -> Any:
    singles = [frames(policy, seed) for seed in range(rows)]
    obs = {key: torch.stack([torch.from_numpy(one[key]) for one in singles]) for key in singles[0]}
    torch.manual_seed(1)
    actions = torch.empty(rows, *policy.net.shape).uniform_(-0.2, 0.2)
    if policy.net.scaler.relative:
        actions = actions + obs["joints"][:, -1:, :2]
    return obs, actions, torch.ones(rows, policy.net.shape[0], dtype=torch.bool)


def sizes(net: Any) -> dict[str, float]:
    """Norm of the gradient of each part of the net, 0 where none arrived."""
    found = {}
    for part in PARTS:
        grads = [p.grad for p in getattr(net, part).parameters() if p.grad is not None]
        found[part] = float(torch.stack([g.square().sum() for g in grads]).sum().sqrt()) if grads else 0.0
    return found


@pytest.fixture
def learner(make_policy: Any) -> Any:
    policy = make_policy(obs_steps=1, iterations=12, proximal=1.0)
    policy.net.train().requires_grad_(True)
    return policy


def test_the_loss_reaches_every_part(learner: Any, frames: Any) -> None:
    learner.net.loss(*batch(learner, frames)).total.backward()
    assert all(size > 0 for size in sizes(learner.net).values()), sizes(learner.net)


def test_the_plans_error_reaches_cost_code_and_encoder_through_the_solve_but_not_the_base(
    learner: Any, frames: Any
) -> None:
    obs, actions, mask = batch(learner, frames)
    torch.manual_seed(0)
    whole = learner.net.loss(obs, actions, mask)
    base = learner.net.base_chunk(learner.net.encode(obs))
    expert = learner.net.scaler.scale(actions, learner.net.scaler.origin(obs))
    (whole.total - (base - expert).square().mean() - 1e-2 * whole.parts["kl"]).backward()
    found = sizes(learner.net)
    assert found["base"] == pytest.approx(0, abs=1e-6)
    assert found["encoder"] > 0 and found["cost"] > 0 and found["posterior"] > 0


def test_the_code_is_trained_by_the_posterior_and_the_prior_follows_it(learner: Any, frames: Any) -> None:
    learner.net.own = learner.net.own.replace(kl_weight=0.0, prior_share=0.0)
    learner.net.loss(*batch(learner, frames)).total.backward()
    found = sizes(learner.net)
    assert found["prior"] == 0 and found["posterior"] > 0


def test_a_step_against_the_gradient_lowers_the_plans_error(learner: Any, frames: Any) -> None:
    data = batch(learner, frames, rows=16)
    parameters = [*learner.net.cost.parameters(), *learner.net.posterior.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=0.05)
    errors = []
    for _ in range(12):
        torch.manual_seed(3)
        loss = learner.net.loss(*data)
        errors.append(float(loss.parts["plan_mse"]))
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
    assert errors[-1] < 0.95 * errors[0], errors


def test_padding_counts_for_positions_and_not_for_rates(make_policy: Any, frames: Any, arm: Any) -> None:
    for mode, counts in (("position", True), ("velocity", False)):
        policy = make_policy(arm.text.replace("mode: position", f"mode: {mode}"), policy="bc", obs_steps=1)
        obs, actions, mask = batch(policy, frames)
        mask[:, 2:] = False
        wild = actions.clone()
        wild[:, 2:] += 1.0
        losses = [float(policy.net.loss(obs, a, mask).total) for a in (actions, wild)]
        assert (losses[0] != losses[1]) is counts


def test_bc_has_a_loss_of_its_own(make_policy: Any, frames: Any) -> None:
    policy = make_policy(policy="bc", obs_steps=1)
    loss = policy.net.loss(*batch(policy, frames))
    assert list(loss.parts) == ["base_mse"] and float(loss.parts["base_mse"]) == pytest.approx(float(loss.total))


@pytest.mark.parametrize("dynamics", ["none", "latent"])
@pytest.mark.parametrize("proximal", [0.5, 0.1])
def test_the_conjugate_gradients_of_the_adjoint_give_the_factored_hessians_gradient(
    make_policy: Any, frames: Any, monkeypatch: pytest.MonkeyPatch, dynamics: str, proximal: float
) -> None:
    from dataclasses import replace

    policy = make_policy(
        obs_steps=1, iterations=12, proximal=proximal, dynamics=dynamics, cg_iterations=20, prior_share=0.0
    )
    net = policy.net.eval().requires_grad_(True)
    given = batch(policy, frames)

    def gradient() -> torch.Tensor:
        net.zero_grad()
        torch.manual_seed(0)
        net.loss(*given).total.backward()
        return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])

    found, options = gradient(), net.solver_options
    monkeypatch.setattr(net, "solver_options", lambda *a, **k: replace(options(*a, **k), dense_limit=1000))
    exact = gradient()
    assert (found - exact).norm() < 1e-3 * exact.norm()


def test_the_divergence_is_torchs_for_one_mode_and_a_bound_below_each_modes_for_several() -> None:
    from torch.distributions import Normal, kl_divergence

    from difftop_ros.policies.difftop import divergence, divergences

    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 5, 3, generator=generator)
    means, log_variances = torch.randn(2, 5, 4, 3, generator=generator)
    weights = torch.randn(5, 4, generator=generator).log_softmax(1)
    own = Normal(mean[:, None], (0.5 * log_variance[:, None]).exp())
    each = kl_divergence(own, Normal(means, (0.5 * log_variances).exp())).sum(2)
    assert torch.allclose(divergences(mean, log_variance, means, log_variances), each, atol=1e-5)
    one = divergence(mean, log_variance, torch.zeros(5, 1), means[:, :1], log_variances[:, :1])
    assert torch.allclose(one, each[:, 0].mean(), atol=1e-5)
    several = divergence(mean, log_variance, weights, means, log_variances)
    assert 0 < several < (each - weights).amin(1).mean()
