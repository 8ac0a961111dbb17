"""What a step is worth: the task's own reward, its success, costs of costs/ taken off; for trying as for recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from difftop_ros.contract import Contract
from difftop_ros.learning.settings import TrainingError

COSTS = "costs:"
Frames = Mapping[str, np.ndarray]
Part = Callable[[Frames, Frames, float | None, bool | None], float]


class Rewarding:
    """The sum of its parts, of a step from `before` to `after`. `task` and `success` say which of them are asked for,

    only_task that nothing else is.

    spec: 'task', 'success' (1 after a step that ends successfully, else 0) and 'costs:FILE' (less the costs of that
    file, of the joints as measured), joined by '+'.
    """

    def __init__(self, spec: str, contract: Contract | None) -> None:
        """Raises TrainingError for other words, and CostsError for a file that is none."""
        words = spec.split("+")
        self.only_task = words == ["task"]
        self.task, self.success = "task" in words, "success" in words
        self._costs = [_Costs(Path(word.removeprefix(COSTS)), contract) for word in words if word.startswith(COSTS)]
        if len(words) != self.task + self.success + len(self._costs):
            raise TrainingError(
                f"reward_from is {spec!r}; expected some of task, success, costs:FILE, once each, with +"
            )

    def __call__(self, before: Frames, after: Frames, task: float | None, success: bool | None) -> float:
        """task: its own reward; success: whether it is done now; None where nobody says. Raises TrainingError."""
        if (self.task and task is None) or (self.success and success is None):
            lacking = "a reward" if self.task and task is None else "success"
            raise TrainingError(f"reward_from asks for {lacking}, and nobody says what it is; take another reward_from")
        own = (task or 0.0) * self.task + float(bool(success)) * self.success
        return own - sum(cost(before, after) for cost in self._costs)


class _Costs:
    """The costs of a file for a motion of the measured joints in one step."""

    def __init__(self, path: Path, contract: Contract | None) -> None:
        from difftop_ros.costs.load import load_costs

        if contract is None:
            raise TrainingError(f"reward_from names {COSTS}{path}, but this environment has no robot contract")
        self._terms = list(load_costs(path, contract).terms.values())
        self._measured = contract.measured

    def __call__(self, before: Frames, after: Frames) -> float:
        import torch

        rows = [[float(frames[key][row]) for key, row in self._measured] for frames in (before, after)]
        motion = torch.tensor(rows, dtype=torch.float32)[None]
        total = 0.0
        with torch.no_grad():
            for term in self._terms:
                if hasattr(term, "position"):
                    term.position = motion[0, 0]
                total += float(term(motion, *(part[None] for part in term.data))[0])
        return total
