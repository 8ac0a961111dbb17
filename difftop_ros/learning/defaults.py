"""The training options people set most, with their explanations: for the command line and the trainer node.

No torch here, so that `difftop train --help` answers at once. Every name is a field of PolicyConfig, TrainSettings or
AugmentSettings; their defaults apply and a test keeps them in step.
"""

from __future__ import annotations

from typing import Any

Option = tuple[type, "tuple[str, ...] | None", str]

SOLVERS = ("qn", "spg", "newton", "ilqr", "polyak", "mppi")
POLICY_OPTIONS: dict[str, Option] = {
    "policy": (
        str,
        ("difftop", "bc", "bc_rnn", "ibc", "diffusion", "residual"),
        "difftop: the optimiser refines a base; the others: its rivals (docs/policies.md)",
    ),
    "base": (str, ("bc", "bc_rnn", "ibc", "diffusion", "zero"), "what difftop and residual start from (default: bc)"),
    "base_from": (str, None, "model folder that brings the base, trained, with its encoder (default: none)"),
    "base_training": (str, ("joint", "frozen"), "train the base along, or keep the one of base_from as it is"),
    "horizon": (int, None, "knots of a plan, at the contract's rate_hz (default: 16)"),
    "obs_steps": (int, None, "frames of history the policy sees (default: 1)"),
    "action_frame": (str, ("relative", "absolute"), "plan offsets from the measured position, or positions themselves"),
    "image_encoder": (str, ("cnn", "resnet18"), "small and quick, or ResNet-18 with group norm; each camera its own"),
    "image_sharpness": (float, None, "how narrowly the small one's keypoints look before they learn (default: 10)"),
    "cloud_origin": (str, None, "joints of a hand's place, to see points from there: 'hand_x,hand_y,hand_z'"),
    "proximal": (float, None, "weight of staying near the base policy's action (default: 0.5)"),
    "dynamics": (str, ("none", "latent"), "cost of the whole chunk, or of a rollout of learned latent dynamics"),
    "iterations": (int, None, "solver iterations per plan (default: 8)"),
    "solver": (str, SOLVERS, "qn: damped quasi-Newton; ilqr: for latent dynamics; docs/trajopt.md has the others"),
    "code_modes": (int, None, "modes of the prior over codes; 1 is a Gaussian (default: 1)"),
    "code_samples": (int, None, "codes tried per plan, the cheapest plan is kept (default: 1)"),
    "kl_weight": (float, None, "weight of the prior: higher leaves less to the code (default: 0.01)"),
    "gmm_modes": (int, None, "modes of bc_rnn's mixture (default: 5)"),
    "ibc_sampler": (str, ("langevin", "dfo"), "how ibc finds low energies: with gradients, or without"),
    "diffusion_steps": (int, None, "noise levels in diffusion training (default: 100)"),
    "diffusion_inference_steps": (int, None, "denoising steps per plan (default: 10)"),
    "diffusion_target": (str, ("epsilon", "sample"), "what the denoiser estimates: the noise, or the clean chunk"),
}
TRAINING_OPTIONS: dict[str, Option] = {
    "steps": (int, None, "optimisation steps (default: 3000)"),
    "batch": (int, None, "windows per step (default: 64)"),
    "lr": (float, None, "peak learning rate (default: 0.001)"),
    "seed": (int, None, "random seed (default: 0)"),
    "threads": (int, None, "torch threads, 0 for torch's choice (default: 0)"),
    "checkpoint_every": (int, None, "steps between checkpoints (default: 200)"),
}
AUGMENT_OPTIONS: dict[str, Option] = {
    "joint_noise": (float, None, "noise on joint readings [rad | m] (default: 0.01)"),
    "cloud_jitter_m": (float, None, "noise on points [m] (default: 0.002)"),
    "cloud_drop": (float, None, "largest share of points left out (default: 0.1)"),
    "cloud_shift_m": (float, None, "largest shift of a whole cloud [m] (default: 0)"),
    "cloud_turn_rad": (float, None, "largest turn of a whole cloud about any axis [rad] (default: 0)"),
    "image_shift_px": (int, None, "largest random shift of pictures [px] (default: 2)"),
    "turn_joint": (str, None, "an arm's upright first joint, if scenes may be turned about its axis (default: none)"),
    "turn_rad": (float, None, "largest such turn [rad] (default: 0)"),
    "shift_joints": (str, None, "a hand's x, y, z, if scenes may be moved, as 'hand_x,hand_y' (default: none)"),
    "shift_m": (float, None, "largest such move [m] (default: 0)"),
}
OPTIONS = {"policy": POLICY_OPTIONS, "training": TRAINING_OPTIONS, "augmentation": AUGMENT_OPTIONS}

# What a comparison of policies (learning/bench.py) is made of unless told otherwise; names and tables always say it ...
COMPARED: dict[str, Any] = {
    "tasks": tuple(f"metaworld/{name}-v3" for name in ("push", "pick-place", "basketball", "peg-insert-side")),
    "observations": ("cloud", "state"),
    "policies": ("bc", "bc_rnn", "ibc", "diffusion", "residual", "difftop"),
    "seeds": (0, 1),
    "demos": 10,
    "steps": 800,
    "episodes": 40,
}
# ... and this they say only where it is another.
COMPARED_UNNAMED: dict[str, Any] = {"batch": 128, "horizon": 8, "obs_steps": 2, "replan_every": 4, "scene": "fixed"}
