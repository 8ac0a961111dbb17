"""From an environment's name to a run that is done and, for a robot's task, a model folder. train.py trains."""

from __future__ import annotations

from pathlib import Path

import torch

from difftop_ros.contract import Contract
from difftop_ros.learning.progress import Progress, Report, Stop, never, silent
from difftop_ros.learning.reinforcement.environments import make_trial
from difftop_ros.learning.reinforcement.settings import TryingSettings
from difftop_ros.learning.reinforcement.train import train_by_trying
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
) -> LatentAgent:
    """Train in the environment that the settings name; under a contract the run's folder is a model folder as well.

    contract: the file of a robot's, None for the shipped one of its suite. Raises UserError, and Stopped.
    """
    target = resolve_device(device)
    trial = make_trial(settings, contract)
    found = trial.contract
    trial.close()
    agent = train_by_trying(
        lambda: make_trial(settings, contract), settings, out, device=target, fresh=fresh, report=report, stop=stop
    ).agent
    if found is not None:
        policy_of(agent, found, target).save(out)
    report(Progress("done", settings.steps, settings.steps, f"wrote {out}"))
    return agent


def policy_of(agent: LatentAgent, contract: Contract, device: torch.device) -> Policy:
    """The agent under its robot's contract, as the live node runs it."""
    net = LatentPlanningNet(contract, agent.config)
    net.agent.load_state_dict(agent.state_dict())
    return Policy(net, contract, device)
