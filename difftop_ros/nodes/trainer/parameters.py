"""The trainer node's parameters, and the training job they describe. No rclpy here."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difftop_ros.errors import UserError
from difftop_ros.learning.options import changed, sections
from difftop_ros.learning.reinforcement.settings import TryingSettings
from difftop_ros.learning.reinforcement.settings import sections as sections_of_trying
from difftop_ros.nodes.parameters import Parameter

if TYPE_CHECKING:
    from difftop_ros.learning.run import TrainingJob
    from difftop_ros.options import Option

ROBOT = "ros"  # as env: the robot that this node's topics lead to
TRYING = "trying."

HEAD = (
    "Parameters of the trainer node, each with its type, unit and meaning. bags, contract and out are the ones to set; "
    "copy this file and give the copy as params_file to launch/train.launch.py."
)
JOB_PARAMETERS = (
    Parameter("bags", [""], "rosbag2 folders, or folders of them: one string or an array of strings", dynamic=True),
    Parameter(
        "corrections",
        [""],
        "as bags, recorded while a policy ran and a person took over now and then: one string or an array of strings",
        dynamic=True,
    ),
    Parameter("contract", "", "path of the robot contract; '' is the demo's config/panda_table.yaml"),
    Parameter("out", "", "model folder to write; a run in it that was stopped goes on"),
    Parameter("dataset", "", "where the ingested data goes; '' is beside the first bags"),
    Parameter("include_failures", False, "train on episodes marked as failed too"),
    Parameter("strict", False, "do not train if anything is left out of any bag"),
    Parameter("device", "auto", "cpu, cuda, cuda:0 or auto; cuda without a GPU is refused"),
    Parameter("fresh", False, "start over instead of going on with the run in 'out'"),
    Parameter("eval_episodes", 20, "starts in simulation after training; 0 for none", (0, 10_000)),
    Parameter("task", "", "reach, push or lift, for the evaluation; '' is the contract's sim.task"),
    Parameter("env", "", "learn by trying, there: ros for the robot that the contract's topics lead to, or what "
        "difftop train-rl --env takes; '' learns from the bags alone"),
    Parameter("reset", "sim/reset", "env ros: the service that begins an episode, the simulation's or any "
        "std_srvs/Trigger; hand: a person sets the scene up and calls ~/ready"),
)  # fmt: skip


def parameters() -> list[Parameter]:
    """All of them: those of the job, then the training options with their defaults, last those of trying."""
    table = [*JOB_PARAMETERS, *(_parameter(option) for options in sections().values() for option in options)]
    return [*table, *(_parameter(option, TRYING) for option in _trying_options())]


def _parameter(option: Option, prefix: str = "") -> Parameter:
    default = list(option.default) if option.kind is tuple else option.default
    return Parameter(f"{prefix}{option.name}", default, option.description, choices=option.choices)


def _trying_options() -> list[Option]:
    """What belongs to learning by trying alone; `env` is a parameter of the job."""
    return [option for options in sections_of_trying().values() for option in options if option.name != "env"]


PARAMETERS = parameters()


def job_from(values: dict[str, Any]) -> TrainingJob:
    """The training job of parameter values by name. Raises UserError for what cannot be."""
    from difftop_ros.contract import load_contract
    from difftop_ros.learning.run import TrainingJob
    from difftop_ros.learning.settings import TrainSettings
    from difftop_ros.paths import share_path

    bags, corrections = (_folders(name, values[name]) for name in ("bags", "corrections"))
    if not values["out"]:
        raise UserError("parameter 'out' is ''; expected the model folder to write, such as models/mine")
    return TrainingJob(
        bags=bags,
        corrections=corrections,
        contract=load_contract(Path(values["contract"] or share_path("config/panda_table.yaml")).expanduser()),
        out=Path(values["out"]).expanduser(),
        settings=TrainSettings.from_values(changed(values)),
        dataset=Path(values["dataset"]).expanduser() if values["dataset"] else None,
        include_failures=values["include_failures"],
        strict=values["strict"],
        device=values["device"],
        fresh=values["fresh"],
        eval_episodes=values["eval_episodes"],
        task=values["task"] or None,
        made_by=_command(values),
    )


def _folders(name: str, value: Any) -> tuple[Path, ...]:
    """The folders of a parameter. Raises UserError if it is neither a string nor an array of them."""
    folders = [value] if isinstance(value, str) else value
    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
        raise UserError(
            f"parameter '{name}' is {folders!r}; expected a folder or an array of folders, such as [bags/lift]"
        )
    return tuple(Path(folder).expanduser() for folder in folders if folder)


@dataclass(frozen=True)
class TryingJob:
    """What to learn by trying, as train_in_environment takes it."""

    settings: TryingSettings
    out: Path
    contract: Path
    device: str
    fresh: bool
    bags: tuple[Path, ...]


def trying_from(values: dict[str, Any]) -> TryingJob:
    """The training by trying of parameter values by name. Raises UserError for what cannot be."""
    from difftop_ros.paths import share_path

    if not values["out"]:
        raise UserError("parameter 'out' is ''; expected the model folder to write, such as models/mine")
    given: dict[str, Any] = {"env": values["env"]}
    for option in _trying_options():
        value = values[f"{TRYING}{option.name}"]
        value = tuple(value) if option.kind is tuple else value
        if value != option.default:
            given[option.name] = value
    return TryingJob(
        TryingSettings.from_values(given),
        Path(values["out"]).expanduser(),
        Path(values["contract"] or share_path("config/panda_table.yaml")).expanduser(),
        values["device"],
        values["fresh"],
        _folders("bags", values["bags"]),
    )


def _command(values: dict[str, Any]) -> str:
    """The command that starts the node with these values."""
    words = ["ros2 run difftop_ros trainer_node --ros-args"]
    for parameter in parameters():
        value = values[parameter.name]
        value = value.tolist() if isinstance(value, array) else value  # as rclpy gives lists of whole numbers
        if value != parameter.default:
            words.append(f"-p {parameter.name}:={value}")
    return " ".join(words)
