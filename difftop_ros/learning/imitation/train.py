"""Training from a dataset to a model folder: fit, checkpoint, resume, export. No bags, no evaluation, no ROS here."""

from __future__ import annotations

import hashlib
import logging
import shutil
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader, Dataset

from difftop_ros.data import EpisodeDataset, WindowDataset
from difftop_ros.learning.calibrate import fit_novelty
from difftop_ros.learning.callbacks import Checkpoints, ProgressReports
from difftop_ros.learning.checkpoints import (
    averaged_weights,
    checkpoint_step,
    latest_checkpoint,
    read_checkpoint,
    restoring,
)
from difftop_ros.learning.imitation.batches import RandomBatches, as_tensors, fit_to, held_out, split_by_episode
from difftop_ros.learning.imitation.corrections import teaching
from difftop_ros.learning.imitation.module import SECONDS, ImitationModule
from difftop_ros.learning.imitation.trust import calibrate
from difftop_ros.learning.memory import keep_freed_memory
from difftop_ros.learning.progress import Progress, Report, Stop, Stopped, never, silent
from difftop_ros.learning.settings import RECORD, TrainingError, TrainSettings
from difftop_ros.learning.threads import choose_threads
from difftop_ros.manifest import MANIFEST
from difftop_ros.nets import PointCloudEncoder, PointTokenEncoder
from difftop_ros.policies import Policy, make_net, resolve_device, take_base, with_sizes_of_base
from difftop_ros.policies.policy import CONFIG, CONTRACT, NOVELTY, WEIGHTS


def train(
    episodes: EpisodeDataset,
    settings: TrainSettings,
    out: str | Path,
    *,
    corrections: Collection[Path] = (),
    device: str = "cpu",
    fresh: bool = False,
    report: Report = silent,
    stop: Stop = never,
) -> Policy:
    """Train a policy on `episodes` and write the model folder `out`; a stopped run goes on from its last checkpoint.

    On the same device a run that was stopped and went on ends with the weights of one that was not. The folder gets
    weights, config.yaml, contract.yaml, training.yaml, checkpoints/ and logs/ (TensorBoard and CSV). Raises Stopped
    after the step in which `stop()` turned true, TrainingError if `out` holds another run or the loss is not finite,
    and PolicyError for a device that is not there. corrections: bags recorded while a policy ran, see corrections.py.
    """
    out, target = Path(out), resolve_device(device)
    settings = settings.replace(policy=with_sizes_of_base(settings.policy))
    chosen = teaching(episodes, corrections)
    if not sum(map(len, chosen)):
        raise TrainingError("nobody took over in any of these episodes, so none of them teaches; give demonstrations")
    data = {"contract": episodes.contract.sha256, "episodes": _mark(episodes, chosen)}
    if fresh:
        _remove_run(out)
    elif (out / WEIGHTS).is_file() and not (out / RECORD).is_file():
        raise TrainingError(f"{str(out)!r} holds a policy without its training; give another out folder, or fresh")
    settings.check_resumable(out, data)
    checkpoint = latest_checkpoint(out / "checkpoints")
    if checkpoint and checkpoint_step(checkpoint) > settings.steps:
        raise TrainingError(
            f"{str(out)!r} has gone {checkpoint_step(checkpoint)} steps already, more than the {settings.steps} asked "
            "for; ask for more steps, or start over with fresh"
        )
    out.mkdir(parents=True, exist_ok=True)
    settings.record(out, data)
    keep_freed_memory()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    lightning.seed_everything(settings.seed, verbose=False)
    net = make_net(episodes.contract, settings.policy)
    fit_to(net, episodes, settings.augment)
    take_base(net)
    for part in net.modules():
        if isinstance(part, PointCloudEncoder | PointTokenEncoder):
            part.in_bfloat16 = settings.precision == "bfloat16"
    if checkpoint is None or checkpoint_step(checkpoint) < settings.steps:
        module = ImitationModule(net, episodes.contract, settings)
        checkpoint = _fit(module, episodes, chosen, out, target, checkpoint, report, stop)
    if checkpoint is None or checkpoint_step(checkpoint) < settings.steps:
        raise Stopped(f"stopped after step {checkpoint_step(checkpoint)} of {settings.steps}, kept in {out}")
    with restoring(checkpoint):
        net.load_state_dict(averaged_weights(checkpoint))
    if said := calibrate(net.eval(), held_out(episodes, settings, np.concatenate(chosen))):
        report(Progress("train", settings.steps, settings.steps, said))
    policy = Policy(net, episodes.contract, target)
    policy.novelty = fit_novelty(episodes, policy) if len(episodes) > 1 else None
    policy.save(out)
    return policy


def _fit(
    module: ImitationModule,
    episodes: EpisodeDataset,
    chosen: tuple[np.ndarray, np.ndarray],
    out: Path,
    device: torch.device,
    checkpoint: Path | None,
    report: Report,
    stop: Stop,
) -> Path | None:
    """Optimise until the last step or until `stop()`; returns the newest checkpoint."""
    settings, first = module.settings, checkpoint_step(checkpoint)
    windows = WindowDataset(episodes, settings.policy.obs_steps, settings.policy.horizon)
    training, validation = split_by_episode(episodes, settings.validation, settings.seed)
    shown, corrected = (part[np.isin(part, training)] for part in chosen)
    batches = RandomBatches(windows, shown, settings.batch, settings.seed, first, corrected, settings.correction_share)
    _first_words(module, windows, shown, len(validation), device, first, report)
    validation = validation[np.isin(validation, np.concatenate(chosen))]
    held_out = [as_tensors(windows.batch(part)) for part in _parts(validation, settings.batch)]
    saving = Checkpoints(out / "checkpoints", settings.checkpoint_every, settings.keep_checkpoints, stop)
    callbacks: list[Callback] = [ProgressReports(report, settings.steps, batches.per_pass), saving]
    if settings.ema:
        callbacks.append(EMAWeightAveraging(decay=settings.ema))
    with _quiet():
        trainer = lightning.Trainer(
            max_steps=settings.steps,
            max_epochs=-1,
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=[device.index or 0] if device.type == "cuda" else 1,
            logger=[
                TensorBoardLogger(out / "logs", name="", version=""),
                CSVLogger(out / "logs", name="", version=f"from_step_{first}"),  # it would delete what is there
            ],
            callbacks=callbacks,
            gradient_clip_val=1.0,
            val_check_interval=min(settings.checkpoint_every, settings.steps) if held_out else None,
            limit_val_batches=len(held_out),
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            with restoring(checkpoint, lambda: saving.begun):
                trainer.fit(
                    module,
                    DataLoader(batches, batch_size=None),
                    DataLoader(_Listed(held_out), batch_size=None) if held_out else None,
                    ckpt_path=checkpoint,
                    weights_only=True if checkpoint else None,
                )
        except SIGTERMException:  # an exit with code 0 as if all were done: our caller says how far it got
            pass
    return latest_checkpoint(out / "checkpoints")


def _first_words(
    module: ImitationModule, windows: WindowDataset, shown: np.ndarray, held_out: int, device: torch.device, step: int,
    report: Report,
) -> None:  # fmt: skip
    """Say what is trained on what, after choosing torch's threads where the settings leave that open."""
    settings, net = module.settings, module.net
    threads = f"{torch.get_num_threads()} threads"
    if device.type == "cpu" and not settings.threads:
        batch = as_tensors(windows.batch(shown[: settings.batch]))

        def work() -> None:
            loss = net.loss(batch["obs"], batch["action"], batch["mask"], batch["obs"]).total
            torch.autograd.grad(loss, [p for p in net.parameters() if p.requires_grad], allow_unused=True)

        chosen, took = choose_threads(work)
        tried = ", ".join(f"{ms:.0f} ms with {count}" for count, ms in took.items())
        threads = f"{chosen} thread{'s' * (chosen > 1)} ({tried})"
    parameters = sum(p.numel() for p in net.parameters())
    report(
        Progress(
            "train", step, settings.steps,
            f"{device}, {threads}; {len(shown):,} windows to learn from, {held_out:,} of held-out episodes; "
            f"{parameters:,} parameters, {settings.steps:,} steps of {settings.batch}",
        )
    )  # fmt: skip


class _Listed(Dataset[Any]):
    """Ready batches as a dataset."""

    def __init__(self, batches: list[Any]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Any:
        return self._batches[index]


def training_seconds(out: str | Path) -> float:
    """Seconds that the run in `out` has taken up to its last checkpoint, however often it was stopped."""
    newest = latest_checkpoint(Path(out) / "checkpoints")
    with restoring(newest):
        return float(read_checkpoint(newest).get(SECONDS, 0.0)) if newest else 0.0


def _mark(episodes: EpisodeDataset, chosen: tuple[np.ndarray, np.ndarray]) -> str:
    """Hash of which episodes are learned from: their lengths and times, which survive a copy of the files.

    And of which steps of them, where that is not all.
    """
    lines = [f"{e.steps} {e.attributes['first_ns']} {e.attributes['last_ns']}" for e in episodes]
    if len(chosen[0]) < episodes.steps:
        lines += [f"{part.tolist()}" for part in chosen]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _parts(indices: Any, size: int) -> list[Any]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _remove_run(out: Path) -> None:
    if not (out / RECORD).is_file():
        return
    for name in ("checkpoints", "logs"):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in (RECORD, WEIGHTS, CONFIG, CONTRACT, NOVELTY, MANIFEST):
        (out / name).unlink(missing_ok=True)


class _quiet(warnings.catch_warnings):
    """Lightning's advertisement lines and its advice on worker counts are not for our users."""

    def __enter__(self) -> None:
        super().__enter__()
        for message in ("does not have many workers", "GPU available", "no `val_dataloader`", "treespec, LeafSpec"):
            warnings.filterwarnings("ignore", message=f".*{message}.*")
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
