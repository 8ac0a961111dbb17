"""How far an observation lies from what training saw, of raw frames and numpy alone. What to do about it: runtime/."""

from difftop_ros.novelty.score import PLAN, Novelty, NoveltyError, Score
from difftop_ros.novelty.statistics import aspects

__all__ = ["PLAN", "Novelty", "NoveltyError", "Score", "aspects"]
