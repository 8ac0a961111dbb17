"""Imitation policies on equal terms: the cells of a comparison, how one is run, and the table they are kept in.

A cell is one policy trained once: task x observation x policy x seed. All cells share demonstrations, encoders,
windows, optimisation steps and evaluation starts; only the policy class differs. Rows go to a CSV that is only added
to, so that a run that was stopped goes on, and results gather over days. What is drawn is in report.py.
"""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from difftop_ros import __version__
from difftop_ros.commands.bench import rows
from difftop_ros.commands.bench.capacity import with_equal_budget
from difftop_ros.commands.bench.usual import COMPARED_UNNAMED, PROTOCOLS
from difftop_ros.contract import Contract, load_contract, parse_contract
from difftop_ros.errors import UserError
from difftop_ros.learning.progress import Report, Stop, never, silent
from difftop_ros.learning.settings import AugmentSettings, TrainSettings
from difftop_ros.options import Options
from difftop_ros.paths import share_path
from difftop_ros.policies.config import PolicyConfig, registered

if TYPE_CHECKING:
    from difftop_ros.policies import Policy

OBSERVATIONS = ("cloud", "image", "state")
# suite -> observation -> contract in config/; from joints alone, that of the cloud without the cloud
CONTRACTS = {
    "panda": {"cloud": "panda_table", "image": "panda_table_image"},
    "metaworld": {"cloud": "metaworld_cloud", "image": "metaworld_image"},
}
SCENES = ("fixed", "moved", "hand")
FIVE = 5  # checkpoints of which the best is told too, where a protocol says so
SHIFT_M = 0.08  # how far a moved scene moves
HANDS = {"metaworld": ("hand_x", "hand_y", "hand_z")}  # suites whose joints are a hand's place


@dataclass(frozen=True)
class Cell:
    """One row to be. policy: a name with options, e.g. 'difftop' or 'difftop:proximal=1,base=diffusion'.

    scene: 'fixed' takes clouds as they are; where the joints are a hand's place, 'moved' moves scenes in training, hand
    and all (learning/augment.py), and 'hand' sees points from the hand (PolicyConfig.cloud_origin). stay_steps: what
    the expert goes on to do after success, in steps of the demonstration. points: of clouds, 0 for the contract's.
    protocol: see usual.PROTOCOLS.
    """

    task: str
    observation: str
    policy: str
    demos: int
    seed: int
    steps: int
    batch: int
    episodes: int
    horizon: int
    obs_steps: int
    replan_every: int
    scene: str = "fixed"  # what every task has
    stay_steps: int = COMPARED_UNNAMED["stay_steps"]
    points: int = COMPARED_UNNAMED["points"]
    protocol: str = COMPARED_UNNAMED["protocol"]

    def __post_init__(self) -> None:
        if self.observation not in OBSERVATIONS:
            raise UserError(f"observation is {self.observation!r}; expected one of {list(OBSERVATIONS)}")
        for name in ("demos", "steps", "batch", "episodes", "horizon", "obs_steps", "replan_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.replan_every > self.horizon:
            raise UserError(f"replan_every is {self.replan_every}; a plan has {self.horizon} steps")
        if self.protocol not in PROTOCOLS:
            raise UserError(f"protocol is {self.protocol!r}; expected one of {list(PROTOCOLS)}")
        for name in ("seed", "stay_steps", "points"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}; expected 0 or more")
        if self.scene not in SCENES:
            raise UserError(f"scene is {self.scene!r}; expected one of {list(SCENES)}")
        if self.scene != "fixed" and not knows_hand(self.task, self.observation):
            raise UserError(f"scene is {self.scene!r}; {self.task!r} ({self.observation}) has no cloud and known hand")

    @property
    def name(self) -> str:
        """A folder name for it."""
        words = [self.task, self.observation, self.policy, f"{self.demos}demos", f"{self.steps}steps", f"s{self.seed}"]
        words += unusual(dataclasses.asdict(self))
        return "_".join("".join(c if c.isalnum() or c in ".-" else "-" for c in word) for word in words)

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two rows the same cell."""
        return tuple(str(value) for value in dataclasses.astuple(self))


KEY = tuple(field.name for field in dataclasses.fields(Cell))
RESULT = (
    "successes", "base_successes", "best_of_five", "parameters", "step_ms", "plan_ms_p50", "plan_ms_p99", "train_min",
    "eval_min", "version", "machine", "date", "outcomes", "base_outcomes",
)  # fmt: skip
COLUMNS = (*KEY, *RESULT)


def knows_hand(task: str, observation: str) -> bool:
    """Whether the task is seen in clouds by a robot whose joints are its hand's place."""
    return observation == "cloud" and "/" in task and task.split("/")[0] in HANDS


def unusual(row: Mapping[str, Any], names: Collection[str] = tuple(COMPARED_UNNAMED)) -> list[str]:
    """What of these settings is other than usual in a cell, as a row has it: 'moved', 'obs_steps 1'."""
    usual = dict(COMPARED_UNNAMED)
    if not knows_hand(row["task"], row["observation"]):
        usual["scene"] = "fixed"
    return [
        row[name] if name == "scene" else f"{name} {row[name]}"
        for name, value in usual.items()
        if name in names and str(row[name]) != str(value)
    ]


def all_cells(
    tasks: Sequence[str],
    observations: Sequence[str],
    policies: Sequence[str],
    seeds: Sequence[int],
    scene: str = COMPARED_UNNAMED["scene"],
    **shared: Any,
) -> list[Cell]:
    """Every combination, seed by seed, so that early rows already compare all policies. Raises UserError.

    From joints alone (the control that shows whether a task needs eyes) only the first policy runs, and where no hand
    is known the scene is 'fixed'.
    """

    def seen(task: str, observation: str) -> str:
        return scene if knows_hand(task, observation) else "fixed"

    return [
        Cell(task, observation, policy, seed=seed, scene=seen(task, observation), **shared)
        for seed in seeds
        for task in tasks
        for observation in observations
        for policy in (policies[:1] if observation == "state" else policies)
    ]


def contract_path(task: str, observation: str) -> Path:
    """The shipped contract of a task ('metaworld/push-v3', or 'push' of the demo arm). Raises UserError."""
    suite = task.split("/")[0] if "/" in task else "panda"
    if suite not in CONTRACTS:
        raise UserError(
            f"task is {task!r}; expected one of the demo arm's, or SUITE/TASK with one of {list(CONTRACTS)}"
        )
    return share_path(f"config/{CONTRACTS[suite]['cloud' if observation == 'state' else observation]}.yaml")


def cell_contract(task: str, observation: str, points: int = 0) -> Contract:
    """The contract of a task with one kind of observation; 'state' is that of the cloud with its joints alone.

    points: of its clouds, 0 for as many as it has.
    """
    contract = load_contract(contract_path(task, observation))
    data = contract.to_dict()
    if observation != "state":
        for obs in data["observations"].values():
            if points and "points" in obs:
                obs["points"] = points
        return parse_contract(yaml.safe_dump(data, sort_keys=False), f"{contract.name}, {points} points")
    data["observations"] = {
        key: value for key, value in data["observations"].items() if contract.observations[key].modality == "vector"
    }
    data["sim"]["cameras"] = {}
    return parse_contract(yaml.safe_dump(data, sort_keys=False), f"{contract.name}, joints alone")


def policy_config(text: str, **shared: Any) -> PolicyConfig:
    """'difftop:proximal=1,point_widths=64-64-128' -> its configuration. Raises UserError naming a bad option."""
    name, _, rest = text.partition(":")
    kinds: list[type[Options]] = [PolicyConfig, *registered("imitation").values()]
    known = {option.name: option.default for kind in kinds for option in kind.listed()}
    values: dict[str, Any] = dict(shared)
    for part in filter(None, rest.split(",")):
        key, sign, value = part.partition("=")
        if not sign or key not in known or key == "policy":
            raise UserError(
                f"policy {text!r} has the option {part!r}; expected NAME=VALUE with NAME of {sorted(known)}"
            )
        values[key] = _converted(text, key, value, known[key])
    return PolicyConfig(policy=name, **values)


def _converted(text: str, key: str, value: str, default: Any) -> Any:
    try:
        if isinstance(default, tuple):
            return tuple(int(part) for part in value.split("-"))
        return type(default)(value)
    except ValueError:
        raise UserError(f"policy {text!r}: {key} is {value!r}; expected such as {default!r}") from None


def train_settings(cell: Cell, widths: tuple[int, ...]) -> TrainSettings:
    """The cell's training: everything but the policy class is the same for all, also how many parameters."""
    hand = () if cell.scene == "fixed" else HANDS[cell.task.split("/")[0]]
    origin = ",".join(hand) if cell.scene == "hand" else ""
    moved = ",".join(hand[:2]) if cell.scene == "moved" else ""
    config = policy_config(
        cell.policy, horizon=cell.horizon, obs_steps=cell.obs_steps, point_widths=widths, cloud_origin=origin
    )
    config = with_equal_budget(cell_contract(cell.task, cell.observation, cell.points), config)
    shared: dict[str, Any] = {"policy": config, "steps": cell.steps, "batch": cell.batch, "seed": cell.seed}
    if cell.protocol == "dp3":  # AdamW under a cosine, an average of the weights, nothing disturbed; five checkpoints
        still = AugmentSettings(joint_noise=0.0, cloud_jitter_m=0.0, cloud_drop=0.0, image_shift_px=0)
        return TrainSettings(
            augment=still, lr=1e-4, weight_decay=1e-6, ema=0.999, validation=0.0, keep_checkpoints=FIVE,
            checkpoint_every=max(cell.steps // (3 * FIVE), 1), threads=1, **shared,
        )  # fmt: skip
    augment = AugmentSettings(shift_joints=moved, shift_m=SHIFT_M if moved else 0.0)
    return TrainSettings(augment=augment, validation=0.0, checkpoint_every=200, threads=1, **shared)


def run_cell(
    cell: Cell,
    dataset: Path,
    out: Path,
    widths: tuple[int, ...] = (64, 64, 128),
    *,
    device: str = "cpu",
    report: Report = silent,
    stop: Stop = never,
) -> dict[str, Any]:
    """Train and evaluate one cell in the folder `out` (its model, loss curve, video); returns its row.

    Goes on from the last checkpoint when `out` has one. Raises Stopped when `stop()` turns true, and UserError.
    """
    from difftop_ros.data import EpisodeDataset
    from difftop_ros.learning.imitation.train import train, training_seconds
    from difftop_ros.learning.report import plot_losses
    from difftop_ros.learning.run import evaluate_model

    episodes = EpisodeDataset(dataset)
    policy = train(episodes, train_settings(cell, widths), out, device=device, report=report, stop=stop)
    plot_losses(out)
    began = time.monotonic()
    found, *base = evaluate_model(policy, out, cell.task, cell.episodes, replan_every=cell.replan_every, report=report,
                                  stop=stop)  # fmt: skip
    five = _of_checkpoints(policy, out, cell, stop) if cell.protocol == "dp3" else []
    seconds = training_seconds(out)
    return {
        **dataclasses.asdict(cell),
        "successes": found.successes,
        "base_successes": base[0].successes if base else "",
        "best_of_five": max([found.successes, *five]) if five else "",
        "parameters": sum(p.numel() for p in policy.net.parameters()),
        "step_ms": round(1e3 * seconds / cell.steps, 1),
        "plan_ms_p50": round(found.plan_ms(0.5), 2),
        "plan_ms_p99": round(found.plan_ms(0.99), 2),
        "train_min": round(seconds / 60, 2),
        "eval_min": round((time.monotonic() - began) / 60, 2),
        "version": __version__,
        "machine": f"{platform.machine()} {device}",
        "date": date.today().isoformat(),
        "outcomes": found.signs,
        "base_outcomes": base[0].signs if base else "",
    }


def _of_checkpoints(policy: Policy, out: Path, cell: Cell, stop: Stop) -> list[int]:
    """Successes from the same starts with the weights of each checkpoint that is kept but the last."""
    from difftop_ros.learning.checkpoints import averaged_weights, checkpoints
    from difftop_ros.learning.evaluate import EVALUATION_SEED, evaluate
    from difftop_ros.learning.progress import Stopped
    from difftop_ros.sim.robot import SimulatedRobot

    found, last = [], {name: tensor.clone() for name, tensor in policy.net.state_dict().items()}
    robot = SimulatedRobot(policy.contract, cell.task)
    try:
        for checkpoint in checkpoints(out / "checkpoints")[:-1]:
            if stop():
                raise Stopped(f"stopped at {checkpoint.name}")
            policy.net.load_state_dict(averaged_weights(checkpoint))
            starts = range(EVALUATION_SEED, EVALUATION_SEED + cell.episodes)
            found.append(evaluate(policy, robot, starts, replan_every=cell.replan_every).successes)
    finally:
        policy.net.load_state_dict(last)
        robot.close()
    return found


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a results file, as `rows.read`."""
    return rows.read(path, COLUMNS)


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add a row, as `rows.append`."""
    rows.append(path, COLUMNS, row)


def unfinished(cells: Sequence[Cell], done_rows: Sequence[dict[str, str]]) -> list[Cell]:
    """The cells that have no row yet."""
    done = {tuple(row[name] for name in KEY) for row in done_rows}
    return [cell for cell in cells if cell.key not in done]
