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
    "points": 0,  # of a cloud: as many as the contract has
    "protocol": "ours",
}
# Comparisons as others made them, by name: what is then usual in place of the above. What is not a cell's setting is in
# cells.train_settings. dp3: 3-D Diffusion Policy (Ze et al. 2024, arXiv 2403.03954), with ten demonstrations of full
# length, 25,000 steps for its 3,000 passes over them, and clouds as they are.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "ours": {},
    "dp3": {
        "protocol": "dp3",
        "observations": ("cloud",),
        "policies": ("diffusion",),
        "demos": 10,
        "steps": 25_000,
        "episodes": 20,
        "horizon": 16,
        "obs_steps": 2,
        "replan_every": 8,
        "scene": "fixed",
        "stay_steps": 10_000,
        "points": 512,
    },
}
