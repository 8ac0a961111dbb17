"""Which windows of a dataset teach: those of demonstrations, and those in which a person had taken over from a policy.

In an episode with interventions what the policy did by itself is not to be imitated; the steps at which a person
commanded are (after HG-DAgger, Kelly et al. 2019, arXiv 1810.02890), and get a share of every batch of their own (after
Mandlekar et al. 2020, arXiv 2012.06733), since they are few and show what the policy cannot do.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from difftop_ros.data import EpisodeDataset


def teaching(episodes: EpisodeDataset, corrections: Collection[Path] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the windows (one per step) that demonstrate, and of those that correct.

    An episode with interventions, whichever bag it is from, teaches those steps. One without is a demonstration, unless
    its bag is one of `corrections`: then a policy did all of it, and it teaches nothing.
    """
    bags = {str(bag) for bag in corrections}
    demonstrated, corrected, first = [], [], 0
    for episode in episodes:
        steps = np.arange(first, first + episode.steps)
        first += episode.steps
        if episode.interventions:
            corrected += [steps[start:stop] for start, stop in episode.interventions]
        elif episode.attributes.get("bag") not in bags:
            demonstrated.append(steps)
    return _joined(demonstrated), _joined(corrected)


def summary(episodes: EpisodeDataset, corrections: Collection[Path]) -> str:
    """How much corrects, and which of the correcting bags have nothing in them, for a person; '' if none is there."""
    _, corrected = teaching(episodes, corrections)
    runs = sum(len(episode.interventions) for episode in episodes)
    bags = {str(bag) for bag in corrections}
    idle = [e.name for e in episodes if e.attributes.get("bag") in bags and not e.interventions]
    said = f"{runs} interventions with {len(corrected)} steps" if runs or corrections else ""
    if idle:
        said += f" (nobody took over in {len(idle)} episodes, which teach nothing, the first is {idle[0]})"
    return said


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
