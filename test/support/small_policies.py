"""Small policies for tests: sizes with which everything takes milliseconds."""

from __future__ import annotations

from typing import Any

from difftop_ros.policies import PolicyConfig

WIDTHS = ("bc_width", "gmm_width", "ibc_width", "residual_width", "prior_width", "posterior_width", "cost_width",
          "act_width")  # fmt: skip


def small_config(sizes: dict[str, Any], width: int = 32, **options: Any) -> PolicyConfig:
    """The options, with those of `sizes` that the policy and its base have, and networks of this width."""
    plain = PolicyConfig(**{name: options[name] for name in ("policy", "base") if name in options}).to_dict()
    wanted = {**dict.fromkeys(WIDTHS, width), "diffusion_width": width // 2, **sizes}
    return PolicyConfig(**{**{name: value for name, value in wanted.items() if name in plain}, **options})
