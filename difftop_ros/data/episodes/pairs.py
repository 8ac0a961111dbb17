"""What a policy would learn from a bag, drawn: measured position and action of each joint by step. For people."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.data.episodes.dataset import EpisodeDataset
from difftop_ros.data.episodes.ingest import ingest

CHART, STEP = 60, 4  # height of a joint's chart, width of a step [px]
WIDEST = 4000  # of a chart [px]
MEASURED, ACTION, SPLIT = (150, 150, 150), (255, 210, 60), (200, 60, 60)


def draw_pairs(bag: Path, contract: Contract) -> list[np.ndarray]:
    """A picture uint8 (h, w, 3) RGB for each commanded joint of the (observation, action) pairs that ingest makes.

    A vertical line is where the episode is split. Raises DatasetError when the bag gives no step.
    """
    with tempfile.TemporaryDirectory() as folder:
        ingest([bag], contract, folder)
        episodes = list(EpisodeDataset(folder, include_failures=True))
        places = {n: (key, i) for key, obs in contract.observations.items() for n, i in obs.positions.items()}
        ends = np.cumsum([episode.steps for episode in episodes])
        actions = np.concatenate([episode["action"][:] for episode in episodes])
        charts = []
        for column, joint in enumerate(contract.command.joints):
            key, index = places[joint.name]
            measured = np.concatenate([episode[key][:, index] for episode in episodes])
            together = contract.command.mode == "position"
            title = f"{joint.name}: measured {_span(measured)} {joint.unit} (grey), {contract.command.mode} action "
            title += f"{_span(actions[:, column])} (yellow)"
            charts.append(_chart(title, measured, actions[:, column], ends[:-1], together))
        return charts


def _span(values: np.ndarray) -> str:
    return f"{values.min():.3g} to {values.max():.3g}"


def _chart(title: str, measured: np.ndarray, action: np.ndarray, splits: np.ndarray, together: bool) -> np.ndarray:
    """Both curves in one scale if `together`, else each in its own."""
    width = int(np.clip(STEP * measured.size, 480, WIDEST))
    sheet = np.zeros((18 + CHART, width, 3), np.uint8)
    cv2.putText(sheet, title, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    across = np.linspace(0, width - 1, measured.size + 1)
    for split in splits:
        cv2.line(sheet, (round(across[split]), 18), (round(across[split]), 17 + CHART), SPLIT, 1)
    both = np.concatenate([measured, action])
    for values, colour in ((measured, MEASURED), (action, ACTION)):
        scale = both if together else values
        low, high = float(scale.min()), float(scale.max())
        down = 18 + (CHART - 4) * (1 - (values - low) / max(high - low, 1e-9)) + 1
        points = np.stack([across[:-1], down], axis=1).round().astype(np.int32)
        cv2.polylines(sheet, [points], False, colour, 1)
    return sheet
