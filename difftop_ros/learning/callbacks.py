"""What happens between training steps: checkpoints, the wish to stop, reports. What a step does is module.py's job."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from difftop_ros.files import whole
from difftop_ros.learning.checkpoints import forget_old
from difftop_ros.learning.progress import Progress, Report, Stop


class Checkpoints(Checkpoint):
    """Saves `folder`/step=N.ckpt every `every` steps, at the last step, and when `stop()` ends the run; `keep` stay.

    Always between two steps, never within one, so that what goes on from it is the same run. (Lightning calls
    Checkpoint callbacks after all others: the moving average has had its step by then.)
    """

    def __init__(self, folder: Path, every: int, keep: int, stop: Stop) -> None:
        self._folder, self._every, self._keep, self._stop = folder, every, keep, stop
        self.begun = False  # a step was done with everything that was made or read back

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Save if it is time; the file appears under its name when it is whole."""
        step, self.begun = trainer.global_step, True
        if self._stop():
            trainer.should_stop = True
        if trainer.should_stop or not step % self._every or step >= trainer.max_steps:
            self._save(trainer)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Save when Lightning itself leaves on SIGTERM: it does so between steps, maybe before `stop()` is asked again.

        Not while validating: weights are exchanged for their average then, and the step before was saved.
        """
        if isinstance(exception, SIGTERMException) and not trainer.validating:
            self._save(trainer)

    def _save(self, trainer: lightning.Trainer) -> None:
        step = trainer.global_step
        with whole(self._folder / f"step={step}.ckpt") as beside:
            trainer.save_checkpoint(beside)
        forget_old(self._folder, self._keep)


class ProgressReports(Callback):
    """Tells `report` about once a second where the run is. `per_pass`: steps that show every window once."""

    def __init__(self, report: Report, total: int, per_pass: int) -> None:
        self._report, self._total, self._per_pass = report, total, per_pass
        self._started = self._told = 0.0
        self._first = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Note when and from which step the run (re)starts."""
        self._started, self._first = time.monotonic(), trainer.global_step
        if self._first:
            self._report(Progress("train", self._first, self._total, f"going on from step {self._first}"))

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Report unless the last report is younger than a second."""
        if time.monotonic() - self._told >= 1.0:
            self._tell(trainer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Report the last step."""
        self._tell(trainer)

    def _tell(self, trainer: lightning.Trainer) -> None:
        now, step = time.monotonic(), trainer.global_step
        self._told = now
        rate = (step - self._first) / max(now - self._started, 1e-6)
        self._report(
            Progress(
                "train",
                step,
                self._total,
                metrics={name: float(value) for name, value in trainer.callback_metrics.items()},
                epoch=step // self._per_pass,
                steps_per_second=rate,
                eta_s=(self._total - step) / max(rate, 1e-6),
            )
        )
