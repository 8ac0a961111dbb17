"""What a comparison of policies is made of unless it is told otherwise. No torch here: the command line reads it."""

from __future__ import annotations

from typing import Any

from difftop_ros.policies.config import policy_names

# What a comparison of policies is made of unless told otherwise; names and tables always say it ...
COMPARED: dict[str, Any] = {
    "tasks": tuple(f"metaworld/{name}-v3" for name in ("push", "pick-place", "basketball", "peg-insert-side")),
    "observations": ("cloud", "state"),
    "policies": tuple(policy_names()),
    "seeds": (0, 1),
    "demos": 10,
    "steps": 800,
    "episodes": 40,
}
# ... and this they say only where it is another.
COMPARED_UNNAMED: dict[str, Any] = {
    "batch": 128,
    "horizon": 8,
    "obs_steps": 2,
    "replan_every": 4,
    "scene": "hand",  # where the hand is known, else fixed
    "stay_steps": 100,
}
