"""A base from another model folder: its weights, its encoder, its scales, and whether they are still trained."""

from __future__ import annotations

from difftop_ros.policies.config import PolicyConfig, PolicyError, RefiningOptions
from difftop_ros.policies.net import PolicyNet
from difftop_ros.policies.policy import load_policy

SHARED = ("encoder", "base", "normaliser", "scaler")
ALIKE = ("horizon", "obs_steps", "action_frame", "features", "image_encoder", "image_sharpness", "cloud_origin",
         "point_encoder", "point_groups", "point_neighbours")  # fmt: skip


def with_sizes_of_base(config: PolicyConfig) -> PolicyConfig:
    """The configuration with its base's own options as those of the folder in base_from, if there is one.

    Raises PolicyError if the folder holds no policy, or another than the base that the configuration asks for.
    """
    if not config.refines or not _own(config).base_from:
        return config
    own = _own(config)
    other = load_policy(own.base_from).config
    if other.policy != own.base:
        raise PolicyError(
            f"base_from {own.base_from!r} has policy {other.policy!r}; expected {own.base!r}, as base says"
        )
    return config.replace(**other.own.to_dict())


def _own(config: PolicyConfig) -> RefiningOptions:
    assert isinstance(config.own, RefiningOptions)
    return config.own


def take_base(net: PolicyNet) -> None:
    """Put what the folder in base_from, if there is one, has trained into `net`; 'frozen', it stays so.

    The folder's encoder serves base and cost alike. Raises PolicyError if it was trained for other observations,
    commands or sizes.
    """
    config = net.config
    if not config.refines or not _own(config).base_from:
        return
    own = _own(config)
    other = load_policy(own.base_from).net
    differing = [
        f"{name} {getattr(other.config, name)} instead of {getattr(config, name)}"
        for name in ALIKE
        if getattr(other.config, name) != getattr(config, name)
    ]
    wanted = net.state_dict()
    found = {name: tensor for name, tensor in other.state_dict().items() if name.split(".")[0] in SHARED}
    strange = [name for name, tensor in found.items() if name not in wanted or wanted[name].shape != tensor.shape]
    lacking = [name for name in wanted if name.split(".")[0] in SHARED and name not in found]
    lacking = [name for name in lacking if not name.startswith("encoder.fuse.")]  # bc_rnn fuses its frames itself
    if differing or strange or lacking:
        why = differing or [f"{len(strange) + len(lacking)} tensors, such as {(strange + lacking)[0]}"]
        raise PolicyError(
            f"base_from {own.base_from!r} does not fit: {', '.join(why)} differ; train this policy with the same "
            "contract and sizes as its base"
        )
    net.load_state_dict(found, strict=False)
    if own.base_training == "frozen":
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name not in found)
