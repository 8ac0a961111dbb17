"""The losses and their gradients: of the one through the plan its direction, bound and trust; targets of the values."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium", reason="the extra [sim] is not installed")

from difftop_ros.learning.reinforcement.acting import try_episode
from difftop_ros.learning.reinforcement.learner import Learner
from difftop_ros.learning.reinforcement.losses import Batch, model_loss, plan_loss, value_target
from difftop_ros.learning.reinforcement.replay import Replay
from difftop_ros.learning.reinforcement.settings import TryingSettings
from difftop_ros.learning.reinforcement.train import make_agent
from difftop_ros.policies.latent_planning.agent import LatentAgent

from .conftest import small, trial


def varied(settings: TryingSettings, by: float = 0.3) -> LatentAgent:
    torch.manual_seed(0)
    found = make_agent(trial(), settings)
    with torch.no_grad():
        for parameter in found.model.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return found


def filled(episodes: int = 4) -> Replay:
    replay, random = Replay(1000), np.random.default_rng(0)
    for number in range(episodes):
        replay.add(try_episode(None, trial(), number, 0.0, random).episode)
    return replay


def test_a_step_along_it_makes_the_plan_worth_more() -> None:
    agent = varied(small(plan_iterations=20), 0.05)
    frames = {"state": torch.randn(16, 1, 2)}
    before, _ = plan_loss(agent, frames)
    fixed = agent.encode(frames).detach()
    parameters = agent.planning_parameters()
    gradient = torch.autograd.grad(before, parameters, materialize_grads=True, allow_unused=True)
    with torch.no_grad():
        for parameter, part in zip(parameters, gradient, strict=True):
            parameter.sub_(1e-2 * part)
        action = agent.plan(agent.encode(frames)).actions[:, 0]
        assert -agent.model.values(fixed, action).mean() / agent.get_buffer("scale") < before - 1e-5


def test_its_norm_is_at_most_its_share_of_the_model_s() -> None:
    settings = small(plan_share=0.25, plan_after=0, plan_batch=16, plan_trust="always")
    agent = varied(settings, 0.05)  # few plans lie on their bounds
    learner, replay = Learner(agent, settings, torch.device("cpu")), filled()
    told = [learner.update(replay) for _ in range(6)]
    shares = [found["plan_share"] for found in told]
    assert 0 < max(shares) <= 0.25 + 1e-6 and min(shares) >= 0
    solved = ["plan_loss" in found for found in told]
    assert solved == [True, False, False, True, False, False], "plans are solved anew every third update"


def test_it_counts_by_how_much_better_the_values_know_than_the_model() -> None:
    settings = small(plan_after=0, plan_batch=16)
    replay, learners = filled(), []
    for broken in ("values", "model"):
        agent = varied(settings, 0.05)
        agent.get_buffer("discount").fill_(0.01)  # what a step is worth is nearly its reward then
        part = agent.model.worth.weights[-1] if broken == "values" else agent.model.earns[-1].weight  # type: ignore
        with torch.no_grad():
            part.add_(10 * torch.randn_like(part))  # type: ignore[arg-type]
        judge = Learner(agent, settings, torch.device("cpu"))
        told = judge.update(replay)
        learners.append((judge.trust, told.get("plan_share", 0.0)))
    (off, nothing), (on, something) = learners
    assert off == 0 and on > 0.5
    assert something > nothing


def test_without_it_the_model_learns_from_its_own_losses_alone() -> None:
    replay = filled()
    ends = []
    for weight, after in ((0.0, 0), (1.0, 10)):
        settings = small(plan_loss=weight, plan_after=after)
        agent = varied(settings)
        learner = Learner(agent, settings, torch.device("cpu"))
        told = [learner.update(replay) for _ in range(5)]
        assert not any("plan_share" in found for found in told)
        ends.append(agent.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_after_a_terminal_step_nothing_is_expected_and_after_the_end_of_time_it_is() -> None:
    agent = varied(small())
    agent.get_buffer("discount").fill_(0.9)
    found = filled().sample(8, 3, np.random.default_rng(0))
    batch = Batch.of(found, torch.device("cpu"), 0)
    batch = dataclasses.replace(batch, goes_on=torch.tensor([[1.0], [1.0], [0.0]]).expand(3, 8))
    reached = torch.randn(3, 8, 8).softmax(-1)
    settings = small(smoothing=0.0)
    target = value_target(agent, reached, batch, settings)
    with torch.no_grad():
        action = agent.model.prior(reached.flatten(0, 1))
        following = agent.model.values(reached.flatten(0, 1), action, slow=True).amin(0).view(3, 8)
    torch.testing.assert_close(target[2], batch.rewards[2])
    torch.testing.assert_close(target[:2], batch.rewards[:2] + 0.9 * following[:2])


def test_the_losses_fall_and_the_slow_values_follow() -> None:
    settings = small(plan_after=0)
    torch.manual_seed(0)
    agent = make_agent(trial(), settings)
    learner, replay = Learner(agent, settings, torch.device("cpu")), filled()
    told = [learner.update(replay) for _ in range(150)]
    first, last = (np.mean([found["reward"] for found in part]) for part in (told[:10], told[-10:]))
    assert last < 0.3 * first
    gaps = [float((a - b).abs().max()) for a, b in zip(agent.model.slow.parameters(), agent.model.worth.parameters())]
    assert 0 < max(gaps) < 1


def test_each_sample_counts_for_itself() -> None:
    """The loss of a batch is the mean of those of its samples."""
    settings = small(smoothing=0.0)
    agent = varied(settings)
    batch = Batch.of(filled().sample(6, 3, np.random.default_rng(1)), torch.device("cpu"), 0)

    def one(index: int) -> Batch:
        rows = slice(index, index + 1)
        frames = {key: column[:, rows] for key, column in batch.frames.items()}
        return Batch(frames, batch.actions[:, rows], batch.rewards[:, rows], batch.goes_on[:, rows])

    whole = model_loss(agent, batch, settings)[0]
    torch.testing.assert_close(whole, torch.stack([model_loss(agent, one(i), settings)[0] for i in range(6)]).mean())
