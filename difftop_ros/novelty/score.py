"""How far an observation is from the frames of training, in units of what held-out frames are; stored and read again.

One distance over everything drowns what is wrong with one sensor among all that is right. So each aspect of each stream
has a distance of its own, and the largest counts. Where joints are read, it is also asked whether what the cameras see
goes with them: a camera that was moved shows nothing that by itself would be new. Beside the streams there may be PLAN:
what the plan costs by the learned cost, which is low where training has been.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from difftop_ros.errors import UserError
from difftop_ros.files import whole
from difftop_ros.novelty.reference import Foretelling, Reference, from_tensors, tensors_of
from difftop_ros.novelty.statistics import FORETOLD, aspects

PLAN = "plan"  # stands among the streams, of kind 'plan'
_FOLDS = 5
_QUANTILE = 0.99
_MOST_BYTES = 16 << 20
_FORETELLING = "foretold "  # begins the names of what joint readings foretell
_AGREEMENT = " beside the joints"  # ends the names of aspects from which that is taken away

Frames = Mapping[str, np.ndarray]  # one frame per stream, as the observation pipeline makes them
Values = dict[str, np.ndarray]  # of each aspect, (B, d)


class NoveltyError(UserError):
    """The stored distances are damaged, or belong to other observations."""


@dataclass(frozen=True)
class Score:
    """value: 1 is the 99 % quantile of held-out frames;  of: the stream and aspect that is so far off."""

    value: float
    of: str


class Novelty:
    """Scores observations; made by `fit` or `load`."""

    def __init__(
        self,
        kinds: Mapping[str, str],
        references: Mapping[str, Reference],
        foretelling: Mapping[str, Foretelling],
    ) -> None:
        self._kinds, self._references, self._foretelling = dict(kinds), dict(references), dict(foretelling)

    def score(self, frames: Frames) -> Score:
        """Of finite frames, PLAN's where there is one; the largest of all distances, and where it is."""
        kinds = {key: kind for key, kind in self._kinds.items() if key != PLAN or key in frames}
        values = self._compared(_measured(kinds, [frames]))
        found = {name: float(self._references[name].distance(value)[0]) for name, value in values.items()
                 if name in self._references}  # fmt: skip
        worst = max(found, key=found.__getitem__)
        return Score(found[worst], worst)

    @staticmethod
    def fit(kinds: Mapping[str, str], frames: Iterable[Frames], episode: np.ndarray) -> Novelty:
        """From the frames of training; kinds: those of `aspects` by stream; episode (N,): which each is of.

        In five folds each episode is held out once; the distances of what was held out give the units. Raises
        NoveltyError for fewer than two episodes.
        """
        names, number = np.unique(episode, return_inverse=True)
        if len(names) < 2:
            raise NoveltyError(f"novelty needs held-out episodes, and there is {len(names)}; give two or more")
        values = _measured(kinds, frames)
        fold = (np.random.default_rng(0).permutation(len(names)) % _FOLDS)[number]
        distances: Values = {}
        for held in np.unique(fold):
            away = fold == held
            for name, found in _fitted(kinds, _at(values, ~away))._distances(_at(values, away)).items():
                distances.setdefault(name, np.empty(len(away)))[away] = found
        # an aspect that never varied has distance 0: any positive unit will do
        units = {name: max(float(np.quantile(found, _QUANTILE)), 1e-3) for name, found in distances.items()}
        largest = np.max([distances[name] / unit for name, unit in units.items()], axis=0)
        together = max(float(np.quantile(largest, _QUANTILE)), 1e-3)
        made = _fitted(kinds, values)
        made._references = {
            name: replace(reference, unit=np.full(1, units[name] * together))
            for name, reference in made._references.items()
        }
        return made

    def save(self, path: Path) -> None:
        """Write it as safetensors, in float32."""
        tensors: dict[str, np.ndarray] = {}
        for name, reference in self._references.items():
            tensors |= tensors_of(reference, name)
        for name, foretelling in self._foretelling.items():
            tensors |= tensors_of(foretelling, _FORETELLING + name)
        with whole(path) as beside:
            save_file(tensors, beside)

    @staticmethod
    def load(path: Path, kinds: Mapping[str, str], blank: Frames) -> Novelty:
        """Read what `save` wrote; it must be able to score `blank`, of the streams. Raises NoveltyError."""
        remedy = "delete it, then 'difftop model sign' and 'difftop model calibrate' the folder"
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise NoveltyError(f"{path} has {path.stat().st_size} bytes, expected at most {_MOST_BYTES}; {remedy}")
            tensors = load_file(path)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:  # the last for odd types of number
            raise NoveltyError(f"{path} cannot be read as safetensors ({error}); {remedy}") from None
        broken = [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]
        if broken:
            raise NoveltyError(f"{path} has values that are not finite in {broken[:3]}; {remedy}")
        names = {name.rpartition(".")[0] for name in tensors}
        if any(name.startswith(f"{PLAN} ") for name in names):
            kinds, blank = {**kinds, PLAN: PLAN}, {**blank, PLAN: np.zeros(1)}
        told = {name for name in names if name.startswith(_FORETELLING)}
        measured = _measured(kinds, [blank])
        try:
            made = Novelty(
                kinds,
                {name: from_tensors(Reference, name, tensors) for name in names - told},
                {name.removeprefix(_FORETELLING): from_tensors(Foretelling, name, tensors) for name in told},
            )
            fits = made._references.keys() == made._compared(measured).keys() >= measured.keys()
            fits = fits and bool(np.isfinite(made.score(blank).value))
        except (KeyError, ValueError):  # arrays that are missing, or whose sizes do not go together
            fits = False
        if not fits:
            raise NoveltyError(f"{path} does not fit the observations {sorted(kinds)}; {remedy}")
        return made

    def _compared(self, values: Values) -> Values:
        """The values, and of foretold ones what is left when joint readings have told their part."""
        if not self._foretelling:
            return values
        readings = _readings(self._kinds, values)
        left = {name + _AGREEMENT: values[name] - told(readings) for name, told in self._foretelling.items()}
        return values | left

    def _distances(self, values: Values) -> Values:
        compared = self._compared(values)
        return {name: reference.distance(compared[name]) for name, reference in self._references.items()}


def _fitted(kinds: Mapping[str, str], values: Values) -> Novelty:
    """With units of 1."""
    told = [name for name in values if name.rpartition(" ")[2] in FORETOLD and "vector" in kinds.values()]
    readings = _readings(kinds, values) if told else np.empty(0)
    made = Novelty(kinds, {}, {name: Foretelling.of(readings, values[name]) for name in told})
    made._references = {name: Reference.of(found) for name, found in made._compared(values).items()}
    return made


def _measured(kinds: Mapping[str, str], frames: Iterable[Frames]) -> Values:
    """'stream aspect' -> values (B, d)."""
    found: dict[str, list[np.ndarray]] = {}
    for each in frames:
        for key, kind in kinds.items():
            for aspect, values in aspects(kind, each[key]).items():
                found.setdefault(f"{key} {aspect}", []).append(values)
    return {name: np.stack(values) for name, values in found.items()}


def _readings(kinds: Mapping[str, str], values: Values) -> np.ndarray:
    """All joint readings side by side, (B, n)."""
    return np.concatenate([values[f"{key} values"] for key, kind in kinds.items() if kind == "vector"], axis=1)


def _at(values: Values, chosen: np.ndarray) -> Values:
    return {name: found[chosen] for name, found in values.items()}
