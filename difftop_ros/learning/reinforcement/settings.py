"""What a training by trying is made of; saved with the run as training.yaml. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from difftop_ros.learning.settings import Recorded, TrainingError
from difftop_ros.options import Option, Options
from difftop_ros.policies.config import PolicyConfig, registered
from difftop_ros.policies.latent_planning.options import LatentPlanningConfig


class TryingSettings(Recorded):
    """A training by trying. Steps are control steps of the environment: an action is held for `action_repeat`."""

    error = TrainingError
    free: ClassVar[tuple[str, ...]] = (
        "steps", "eval_every", "eval_episodes", "eval_with", "checkpoint_every", "threads", "compile",
    )  # fmt: skip

    policy: LatentPlanningConfig = Field(default_factory=lambda: LatentPlanningConfig())
    env: str = Field("cartpole-swingup", description="what is tried: a task of dm_control (cartpole-swingup), of the "
                     "demo's arm or Meta-World (reach, metaworld/reach-v3), gymnasium:ID, or ros: the robot "
                     "behind the contract's topics")  # fmt: skip
    action_repeat: int = Field(0, ge=0, le=100, description="control steps that an action is held; 0: the task's usual")
    observe: Literal["state", "pixels"] = Field("state", description="what a task of dm_control shows: its state, or "
                                                "three pictures of 84 x 84")  # fmt: skip
    reward_from: str = Field("task", description="what a step earns: the task's own reward, success (1 while it is "
                             "done), less the costs of costs:FILE; several with +. For bags task is the contract's "
                             "reward_topic")  # fmt: skip
    steps: int = Field(50_000, ge=1, description="control steps of the environment")
    random_steps: int = Field(4_000, ge=1, description="control steps at random before anything is learned")
    pretrain: int = Field(2_000, ge=0, description="updates on recorded episodes before anything is tried; then there "
                          "are no random steps")  # fmt: skip
    imitate: float = Field(1.0, ge=0, description="weight of the recorded action for the prior in those updates")
    update_ratio: float = Field(1.0, gt=0, le=100, description="updates per action")
    batch: int = Field(128, ge=2, le=65536, description="sequences per update")
    unroll: int = Field(3, ge=1, le=100, description="steps the model is unrolled for in training")
    lr: float = Field(1e-3, gt=0, lt=1, description="learning rate")
    discount: float = Field(0.0, ge=0, lt=1, description="of a step; 0: by the length of an episode, as in TD-MPC2")
    decay: float = Field(0.5, gt=0, le=1, description="weight of each further step of the unrolled model")
    consistency: float = Field(20.0, ge=0, description="weight of the next latent state")
    reward: float = Field(1.0, ge=0, description="weight of the reward")
    value: float = Field(0.1, ge=0, description="weight of the value")
    plan_loss: float = Field(1.0, ge=0, description="weight of the policy-gradient loss through the plan; 0: without")
    plan_batch: int = Field(32, ge=1, description="plans that it is taken of, at most the batch")
    plan_every: int = Field(4, ge=1, description="updates that its gradient serves until the next plans are solved")
    plan_share: float = Field(0.3, gt=0, le=100, description="the largest norm of its gradient, in that of the model's")
    plan_trust: Literal["judged", "always"] = Field(
        "judged", description="judged: that loss counts by how much better the values know what a recorded step was "
        "worth than the model does, nothing where the model knows better; always: it counts in full"
    )  # fmt: skip
    plan_after: int = Field(500, ge=0, description="updates before it begins: a value that knows nothing leads astray")
    follow: float = Field(0.01, gt=0, le=1, description="how far slow values follow in an update")
    smoothing: float = Field(0.2, ge=0, le=1, description="noise on the prior's action in a value's target")
    noise: float = Field(0.5, ge=0, le=2, description="first deviation of the exploration noise on an action")
    least_noise: float = Field(0.1, ge=0, le=2, description="last deviation of it")
    noise_steps: int = Field(25_000, ge=1, description="control steps from the first to the last, linear")
    image_shift_px: int = Field(4, ge=0, lt=40, description="largest random shift of pictures in training [px]")
    memory: int = Field(1_000_000, ge=1, description="actions that are remembered; the oldest episode goes first")
    seed: int = Field(0, ge=0, description="of everything random")
    eval_every: int = Field(10_000, ge=1, description="control steps between evaluations")
    eval_episodes: int = Field(10, ge=0, le=1000, description="episodes of an evaluation; 0 for none")
    eval_with: str = Field("plan", description="who acts in evaluations, on equal starts: of plan, prior, mppi, with +")
    checkpoint_every: int = Field(5_000, ge=1, description="control steps between checkpoints")
    threads: int = Field(1, ge=0, description="torch threads; 0 for torch's choice")
    compile: Literal["none", "plan", "all"] = Field(
        "none", description="what is compiled first (torch.compile, a minute each): plans, or the update too"
    )

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        if self.least_noise > self.noise:
            raise ValueError(f"least_noise is {self.least_noise}; expected at most noise, which is {self.noise}")
        strange = [name for name in self.acting if name not in ("plan", "prior", "mppi")]
        if strange or not self.acting:
            raise ValueError(f"eval_with is {self.eval_with!r}; expected some of plan, prior, mppi, as plan+prior")
        return self

    @property
    def acting(self) -> tuple[str, ...]:
        """The names in eval_with."""
        return tuple(filter(None, self.eval_with.split("+")))

    @classmethod
    def names(cls) -> set[str]:
        """All options that `from_values` takes."""
        kinds: list[type[Options]] = [cls, LatentPlanningConfig, *registered("trying").values()]
        return {option.name for kind in kinds for option in kind.listed()}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Settings of option values by name; None keeps a default, other names are passed over. Raises a UserError."""
        given = {name: value for name, value in values.items() if value is not None}
        own = {option.name for option in cls.listed()}
        of_policy = (cls.names() - own) & given.keys()
        policy = LatentPlanningConfig(**{name: given[name] for name in of_policy})
        return cls(policy=policy, **{name: value for name, value in given.items() if name in own})

    def noise_at(self, step: int) -> float:
        """The deviation of the exploration noise at a control step."""
        share = min(1.0, step / self.noise_steps)
        return self.noise + share * (self.least_noise - self.noise)


def sections() -> dict[str, list[Option]]:
    """Title -> options: the training's, the model's, each policy's own; last the encoders', as imitation has them."""
    shared = {option.name for option in PolicyConfig.listed()}
    model = LatentPlanningConfig.listed()
    names = {"policy", "horizon"} | {option.name for option in model if option.name not in shared}
    fixed = {"obs_steps", "action_frame"}  # of which a policy that learns by trying has one choice
    return {
        "trying": TryingSettings.listed(),
        "latent_model": [option for option in model if option.name in names],
        **{name: kind.listed() for name, kind in registered("trying").items() if kind.listed()},
        "encoders": [option for option in model if option.name not in names | fixed],
    }
