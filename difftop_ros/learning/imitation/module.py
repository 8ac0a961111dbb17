"""The Lightning module: loss, optimiser, schedule. What is optimised is the policy's affair."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
import torch

from difftop_ros.contract import Contract
from difftop_ros.learning.imitation.augment import Place, augment, hand_of, shifted, turned
from difftop_ros.learning.settings import TrainingError, TrainSettings
from difftop_ros.policies import PolicyNet

SECONDS = "difftop_seconds"  # key in a checkpoint


class ImitationModule(lightning.LightningModule):
    """Trains any policy's `net` by imitation; what its loss is, is the net's affair."""

    def __init__(self, net: PolicyNet, contract: Contract, settings: TrainSettings) -> None:
        super().__init__()
        self.net, self.settings = net, settings
        self._seconds_before, self._started = 0.0, time.monotonic()
        self._spatial = {key: obs.spatial for key, obs in contract.observations.items()}
        self._turn = self._places(contract, "turn_joint", [settings.augment.turn_joint])
        self._shift = self._places(contract, "shift_joints", settings.augment.axes)
        self._hand = hand_of(net.scaler, settings.augment.axes) if settings.augment.about_hand else None

    def _places(self, contract: Contract, setting: str, joints: Sequence[str]) -> list[Place]:
        """Where the joints are read and commanded. Raises TrainingError naming the setting and the joint."""
        names, moves = list(contract.command.joint_names), contract.command.mode == "position"
        found = []
        for joint in filter(None, joints):
            if joint not in names:
                raise TrainingError(f"{setting} is {joint!r}; expected one of the commanded joints {names}")
            column = names.index(joint)
            found.append(Place(*self.net.scaler.places[column], column if moves else None))
        return found

    def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
        """One step on a batch of windows (see batches.as_tensors). Raises TrainingError when the loss is not finite."""
        # every step has its own seed, so that a run that was stopped goes on with the noise it would have had
        seed = np.random.SeedSequence([self.settings.seed, self.global_step]).generate_state(1)
        torch.manual_seed(int(seed[0]))
        obs, actions, kinds = batch["obs"], batch["action"], self.net.normaliser.kinds
        size = self.settings.augment
        if self._turn:
            obs, actions = turned(obs, actions, self._spatial, self._turn[0], size.turn_rad)
        if self._hand is not None:
            angle, factor = (2 * torch.rand(2, len(actions), device=actions.device) - 1).unbind()
            angle, factor = size.scene_turn_rad * angle, 1 + size.scene_scale * factor
            obs, actions = self._hand.turned(obs, actions, self._spatial, angle, factor)
        if self._shift and size.shift_m:
            obs, actions = shifted(obs, actions, self._spatial, self._shift, size.shift_m)
        loss = self.net.loss(obs, actions, batch["mask"], augment(obs, kinds, size))
        self.log_dict({f"train/{name}": value for name, value in loss.parts.items()}, batch_size=len(batch["mask"]))
        if not torch.isfinite(loss.total):
            raise TrainingError(
                f"the loss is {loss.total.item()} at step {self.global_step + 1}; try a lower lr, and look for jumps "
                "in the recorded commands (the checkpoint before it is kept)"
            )
        return loss.total

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        """The loss on held-out episodes, with the plan as it is made at run time."""
        errors = self.net.errors(batch["obs"], batch["action"])
        self.log_dict({f"valid/{name}": value for name, value in errors.items()}, batch_size=len(batch["mask"]))

    def configure_optimizers(self) -> Any:
        """AdamW under a one-cycle schedule over the whole budget of steps."""
        settings = self.settings
        learned = [p for p in self.net.parameters() if p.requires_grad]  # a frozen base is kept as it is
        optimiser = torch.optim.AdamW(learned, lr=settings.lr, weight_decay=settings.weight_decay)
        total = settings.steps + 1
        warm_up = min(1.0, max(0.05, 2 / total))  # at least a whole step: a phase of none divides by zero
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.lr, total_steps=total, pct_start=warm_up)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the seconds spent so far, over all parts of a run that was stopped."""
        checkpoint[SECONDS] = self._seconds_before + time.monotonic() - self._started

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A run that goes on with another number of steps follows the schedule of the new number."""
        self._seconds_before = float(checkpoint.get(SECONDS, 0.0))
        for schedule in checkpoint["lr_schedulers"]:
            for name in ("total_steps", "_schedule_phases"):
                schedule.pop(name, None)
