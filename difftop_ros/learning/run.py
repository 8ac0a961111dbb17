"""From bags to a model folder with its card: ingest, train, plot, evaluate. For `difftop train` and the trainer node.

How each is done is the affair of data/, train.py, evaluate.py and report.py; here is the order, and how it is stopped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from difftop_ros.contract import Contract
from difftop_ros.data import EpisodeDataset, find_bags, ingest
from difftop_ros.data.episodes.report import BagResult
from difftop_ros.errors import UserError
from difftop_ros.learning.evaluate import EVALUATION_SEED, Evaluation, Outcome, evaluate
from difftop_ros.learning.imitation import corrections
from difftop_ros.learning.progress import Progress, Report, Stop, Stopped, never, silent
from difftop_ros.learning.report import Film, plot_losses, write_card
from difftop_ros.learning.settings import TrainSettings
from difftop_ros.policies import Policy, resolve_device
from difftop_ros.sim import require_simulator
from difftop_ros.sim.robot import SimulatedRobot


@dataclass(frozen=True)
class TrainingJob:
    """What to train from what. bags: rosbag2 folders, or folders of them; out: the model folder to write.

    corrections: the same, recorded while a policy ran and a person took over now and then.

    dataset: where ingested data goes, None for beside the first bags. strict: refuse if anything of the bags is left
    out. eval_episodes: starts after the training, 0 for
    none; task: on which, None for the contract's. made_by: for the model card, the command that started this.
    """

    bags: tuple[Path, ...]
    contract: Contract
    out: Path
    settings: TrainSettings
    corrections: tuple[Path, ...] = ()
    dataset: Path | None = None
    include_failures: bool = False
    strict: bool = False
    device: str = "auto"
    fresh: bool = False
    eval_episodes: int = 20
    task: str | None = None
    made_by: str = ""

    def __post_init__(self) -> None:
        if self.corrections and not self.bags:
            raise UserError("corrections were given without bags; give the demonstrations that they add to")
        if not self.bags and self.dataset is None:
            raise UserError("no bags were given; give folders written by 'difftop record', or a dataset that is there")
        for bags in (*self.bags, *self.corrections):
            if not bags.exists():
                raise UserError(f"bags {str(bags)!r} do not exist; give folders written by 'difftop record'")
        if self.eval_episodes < 0:
            raise UserError(f"eval_episodes is {self.eval_episodes}; expected 0 or more")

    @property
    def correcting_bags(self) -> list[Path]:
        """Every bag of `corrections`. Raises BagError where there is none."""
        return find_bags(self.corrections) if self.corrections else []


def run_training(job: TrainingJob, report: Report = silent, stop: Stop = never) -> tuple[Policy, list[Evaluation]]:
    """Do the job; called again after Stopped, a crash or a reboot it goes on where it was.

    Raises UserError for what the user can put right, and Stopped soon after `stop()` has turned true: after the bag,
    optimisation step or policy step then in work.
    """
    from difftop_ros.learning.imitation.train import (  # here, as an evaluation does without Lightning
        train,
        training_seconds,
    )

    device = str(resolve_device(job.device))
    evaluated = bool(job.eval_episodes and (job.task or job.contract.sim.task))
    if evaluated:
        require_simulator(
            job.task or job.contract.sim.task or "", "evaluation in simulation (eval_episodes 0 does without)"
        )
    episodes = prepare_dataset(job, report, stop)
    policy = train(episodes, job.settings, job.out, corrections=job.correcting_bags, device=device, fresh=job.fresh,
                   report=report, stop=stop)  # fmt: skip
    plot_losses(job.out)
    evaluations = []
    if evaluated:
        evaluations = evaluate_model(policy, job.out, job.task, job.eval_episodes, report=report, stop=stop)
    facts = {
        "data": _counted(episodes, job),
        "optimisation steps": f"{job.settings.steps} of batch {job.settings.batch}, seed {job.settings.seed}",
        "training time": f"{training_seconds(job.out) / 60:.1f} minutes on {device}",
    }
    if job.made_by:
        facts["made by"] = f"`{job.made_by}`"
    card = write_card(job.out, policy, evaluations, facts)
    report(Progress("done", job.settings.steps, job.settings.steps, f"wrote {card}"))
    return policy, evaluations


def prepare_dataset(job: TrainingJob, report: Report = silent, stop: Stop = never) -> EpisodeDataset:
    """Ingest the job's bags (bags done before come from the cache) and open the result. Raises on nothing usable.

    Without bags the job's dataset is taken as it is: one that `difftop bag convert` or `ingest` made.
    """
    if not job.bags:
        return _ready_dataset(job, report)
    first = job.bags[0].absolute()
    folder = job.dataset or first.parent / f"{first.name}_dataset_{job.contract.data_sha256()[:8]}"
    bags = find_bags([*job.bags, *job.corrections])

    def tell(done: int, total: int, result: BagResult) -> None:
        why = f" ({'; '.join(result.said)})" if result.said else ""
        report(Progress("ingest", done, total, f"{Path(result.bag).name}: {result.status}, {result.steps} steps{why}"))
        if stop():
            raise Stopped(f"stopped after bag {done} of {total}, kept in {folder}")

    ingest(bags, job.contract, folder, strict=job.strict, progress=tell)
    episodes = _opened(folder, job)
    left_out = f" ({episodes.failures} marked as failed left out)" if episodes.failures else ""
    taught = corrections.summary(episodes, job.correcting_bags)
    summary = f"{_counted(episodes, job)}{left_out}{_broken(episodes)}{taught and f'; {taught}'}, in {folder}"
    report(Progress("ingest", len(bags), len(bags), summary))
    return episodes


def _ready_dataset(job: TrainingJob, report: Report) -> EpisodeDataset:
    assert job.dataset is not None  # a job has one or the other
    episodes = _opened(job.dataset, job)
    if episodes.contract.data_sha256() != job.contract.data_sha256():
        raise UserError(
            f"'{job.dataset}' was made under contract '{episodes.contract.name}', whose rates, command or observations "
            f"are not those of '{job.contract.name}'; give that contract"
        )
    summary = f"{_counted(episodes, job)}{_broken(episodes)}, in {job.dataset}"
    report(Progress("ingest", 0, 0, summary))
    return episodes


def _opened(folder: Path, job: TrainingJob) -> EpisodeDataset:
    episodes = EpisodeDataset(folder, include_failures=job.include_failures)
    if job.strict and episodes.broken:
        raise UserError(f"strict:{_broken(episodes)} in {folder}; delete the dataset and ingest again")
    return episodes


def _counted(episodes: EpisodeDataset, job: TrainingJob) -> str:
    """For the summary and the card: how much there is, and how many episodes no whole plan fits into."""
    text, horizon = f"{len(episodes)} episodes, {episodes.steps} steps", job.settings.policy.horizon
    short = [episode for episode in episodes if episode.steps < horizon]
    if short:
        shortest = min(short, key=lambda episode: episode.steps)
        text += (
            f" ({len(short)} shorter than the horizon of {horizon} steps are used with their last command repeated, "
            f"the shortest is {shortest.name} with {shortest.steps})"
        )
    return text


def _broken(episodes: EpisodeDataset) -> str:
    """For the summary: how many episodes are left out as broken, and why the first is."""
    return (
        f" ({len(episodes.broken)} broken left out: {next(iter(episodes.broken.values()))})" if episodes.broken else ""
    )


def evaluate_model(
    policy: Policy,
    out: Path,
    task: str | None = None,
    episodes: int = 20,
    *,
    first_seed: int = EVALUATION_SEED,
    replan_every: int = 1,
    base: bool = True,
    disturbance: float = 0.0,
    report: Report = silent,
    stop: Stop = never,
) -> list[Evaluation]:
    """Evaluate the policy and, with `base`, what a refining policy's base does alone on the same starts.

    Writes evaluation.json and, of the policy's first episodes, rollout.mp4 and rollout.png into `out`.
    """
    film = Film()
    seeds = range(first_seed, first_seed + episodes)
    found: list[Evaluation] = []
    robot = SimulatedRobot(policy.contract, task, disturbance=disturbance)

    def watch(index: int, robot: SimulatedRobot) -> None:
        if stop():
            raise Stopped(f"stopped in the evaluation; the policy is complete in {out}")
        if not found:
            film.watch(index, robot)

    policy.warm_up()
    try:
        for iterations in (None, 0) if base and policy.config.refines else (None,):
            done = _Tally(report, episodes)
            found.append(evaluate(policy, robot, seeds, iterations=iterations, replan_every=replan_every, watch=watch,
                                  done=done))  # fmt: skip
            report(Progress("evaluate", episodes, episodes, found[-1].summary()))
    finally:
        robot.close()
    _write_evaluation(out, film, found, policy.contract.rate_hz)
    return found


def _write_evaluation(out: Path, film: Film, found: Sequence[Evaluation], rate_hz: float) -> None:
    film.save(out, found[0], rate_hz)
    (out / "evaluation.json").write_text(json.dumps([f.to_dict() for f in found], indent=1) + "\n")


class _Tally:
    """Reports each finished episode with the successes so far."""

    def __init__(self, report: Report, total: int) -> None:
        self._report, self._total, self._done, self._good = report, total, 0, 0

    def __call__(self, outcome: Outcome) -> None:
        self._done += 1
        self._good += outcome.success
        text = (
            f"seed {outcome.seed}: {'success' if outcome.success else 'failure'} after {outcome.steps} steps, "
            f"{self._good} so far{'  ' + outcome.note if outcome.note else ''}"
        )
        self._report(Progress("evaluate", self._done, self._total, text, {"successes": float(self._good)}))
