"""From an environment's name to a run that is done and, for a robot's task, a model folder. train.py trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from difftop_ros.contract import Contract
from difftop_ros.learning.progress import Progress, Report, Stop, never, silent
from difftop_ros.learning.reinforcement.demonstrations import Demonstrations, demonstrations_of
from difftop_ros.learning.reinforcement.environments import contract_of, make_trial
from difftop_ros.learning.reinforcement.settings import TryingSettings
from difftop_ros.learning.reinforcement.train import Make, train_by_trying
from difftop_ros.learning.run import TrainingJob, prepare_dataset
from difftop_ros.learning.settings import TrainingError, TrainSettings
from difftop_ros.policies import Policy, resolve_device
from difftop_ros.policies.latent_planning.agent import LatentAgent
from difftop_ros.policies.latent_planning.net import LatentPlanningNet


def train_in_environment(
    settings: TryingSettings,
    out: Path,
    contract: Path | None = None,
    device: str = "auto",
    fresh: bool = False,
    report: Report = silent,
    stop: Stop = never,
    bags: Sequence[Path] = (),
    make: Make | None = None,
) -> LatentAgent:
    """Train in the environment that the settings name; under a contract the run's folder is a model folder as well.

    contract: the file of a robot's, None for the shipped one of its suite. bags: recordings of that robot, which are
    learned from first. make: makes the environment in place of its name. Raises UserError, and Stopped.
    """
    target = resolve_device(device)
    make = make or (lambda: make_trial(settings, contract))
    found = contract_of(settings.env, contract)
    recorded = _recorded(settings, found, bags, out, report, stop) if bags else None
    agent = train_by_trying(
        make, settings, out, device=target, fresh=fresh, report=report, stop=stop, recorded=recorded
    ).agent
    if found is not None:
        policy_of(agent, found, target).save(out)
    report(Progress("done", settings.steps, settings.steps, f"wrote {out}"))
    return agent


def _recorded(
    settings: TryingSettings, contract: Contract | None, bags: Sequence[Path], out: Path, report: Report, stop: Stop
) -> Demonstrations:
    """The bags' episodes, failures too: they have a reward like all others."""
    if contract is None:
        raise TrainingError(f"bags were given, but env {settings.env!r} has no robot that they could be of")
    job = TrainingJob(tuple(bags), contract, out, TrainSettings(), include_failures=True)
    found = demonstrations_of(prepare_dataset(job, report, stop), settings.reward_from)
    beyond = f"; {found.clipped:.0%} of the commands ask for more than a step can do" if found.clipped else ""
    report(Progress("ingest", len(bags), len(bags), f"{len(found.episodes)} episodes, {found.steps} steps{beyond}"))
    return found


def policy_of(agent: LatentAgent, contract: Contract, device: torch.device) -> Policy:
    """The agent under its robot's contract, as the live node runs it."""
    net = LatentPlanningNet(contract, agent.config)
    net.agent.load_state_dict(agent.state_dict())
    return Policy(net, contract, device)
