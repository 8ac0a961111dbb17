"""What the gradient through the plan is made of, in a run of `difftop train-rl` that is there. Writes a table.

    difftop train-rl --env cartpole-swingup --steps 14000 --out runs/cartpole
    python -m benchmarks.trying --run runs/cartpole

Of single plans: the median norm of a plan's gradient and the largest one, of all with a free coordinate. Of batches:
the norm, in that of the model losses' gradient for the same parameters; how much of it several batches agree on (the
norm of their mean over the mean of their norms: 1 is all signal); its cosine with the model's gradient. A row for each
least curvature that the backward pass goes by: the plans are the same.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from difftop_ros.learning.checkpoints import latest_checkpoint, read_checkpoint
from difftop_ros.learning.reinforcement.environments import make_trial
from difftop_ros.learning.reinforcement.learner import Learner
from difftop_ros.learning.reinforcement.losses import Batch, model_loss, plan_loss
from difftop_ros.learning.reinforcement.replay import Replay
from difftop_ros.learning.reinforcement.settings import TryingSettings
from difftop_ros.learning.reinforcement.train import read_episode
from difftop_ros.learning.settings import RECORD, TrainingError
from difftop_ros.plain_yaml import read_yaml
from difftop_ros.policies.latent_planning.agent import LatentAgent
from difftop_ros.policies.normalisation import ObservationNormaliser
from difftop_ros.trajopt import SolverOptions

HEAD = ("least curvature", "a plan, median", "largest", "a batch, of the model's", "agreed on", "model's agreed on",
        "cosine")  # fmt: skip


class Floored(LatentAgent):
    """Its plans' gradients go by a curvature of at least `floor`."""

    floor = 0.05

    def solver_options(self, iterations: int | None = None, deadline_ms: float | None = None) -> SolverOptions:
        """As LatentAgent's, but for the floor."""
        return dataclasses.replace(super().solver_options(iterations, deadline_ms), curvature_floor=self.floor)


def of_run(folder: Path) -> tuple[Learner, Replay]:
    """The learner of a run's newest checkpoint, and what it has tried."""
    data = read_yaml(folder / RECORD, "record of the training", TrainingError).data
    settings = TryingSettings.from_values({**{k: v for k, v in data.items() if k != "policy"}, **data["policy"]})
    trial = make_trial(settings)
    agent = Floored(trial.spec, trial.actions, settings.policy, ObservationNormaliser(trial.spec))
    learner = Learner(agent, settings, torch.device("cpu"))
    trial.close()
    newest = latest_checkpoint(folder / "checkpoints")
    if newest is None:
        raise TrainingError(f"{folder} has no checkpoint")
    state, replay = read_checkpoint(newest), Replay(settings.memory)
    learner.load(state["learner"])
    for number in range(int(state["episodes"])):
        replay.add(read_episode(folder / "episodes" / f"{number:06d}.npz"))
    return learner, replay


def flat(loss: Tensor, learner: Learner) -> Tensor:
    """The gradient for what a plan depends on, as one vector."""
    found = torch.autograd.grad(loss, learner.planning_parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in found])


def probe(learner: Learner, replay: Replay, curvatures: Sequence[float], batches: int) -> list[tuple[str, ...]]:
    """Rows of the table."""
    drawn = [
        Batch.of(
            replay.sample(learner.settings.batch, learner.settings.unroll, np.random.default_rng(seed)),
            learner.device,
            0,
        )
        for seed in range(batches)
    ]
    of_model = torch.stack([flat(model_loss(learner.agent, batch, learner.settings)[0], learner) for batch in drawn])
    count, rows = min(learner.settings.plan_batch, learner.settings.batch), []
    agent = learner.agent
    assert isinstance(agent, Floored)
    for agent.floor in curvatures:
        of_plan = torch.stack([flat(plan_loss(agent, batch.first(count))[0], learner) for batch in drawn])
        frames = drawn[0].first(count)
        single = [
            float(flat(plan_loss(agent, {key: part[i : i + 1] for key, part in frames.items()})[0], learner).norm())
            for i in range(count)
        ]
        felt = [norm for norm in single if norm > 0]
        share = of_plan.norm(dim=1).mean() / of_model.norm(dim=1).mean()
        cosine = torch.nn.functional.cosine_similarity(of_plan.mean(0), of_model.mean(0), dim=0)
        figures = (np.median(felt), max(felt), share, agreed(of_plan), agreed(of_model), cosine)
        rows.append((f"{agent.floor:g}", *(f"{float(figure):.2f}" for figure in figures)))
    return rows


def agreed(gradients: Tensor) -> float:
    """Gradients (N, P) of N batches: the norm of their mean over the mean of their norms."""
    return float(gradients.mean(0).norm() / gradients.norm(dim=1).mean())


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of difftop train-rl")
    parser.add_argument("--curvatures", type=float, nargs="+", default=[0.05, 0.2, 0.5, 2.0])
    parser.add_argument("--batches", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(1)
    learner, replay = of_run(args.run)
    for row in (HEAD, ("---",) * len(HEAD), *probe(learner, replay, args.curvatures, args.batches)):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
