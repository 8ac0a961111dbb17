"""What a policy refuses, each in one sentence that names the key, what was got, what was expected and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from difftop_ros.contract import ContractError
from difftop_ros.policies import PolicyConfig, PolicyError, load_policy, resolve_device
from difftop_ros.policies.policy import CONFIG, CONTRACT, WEIGHTS


@pytest.fixture
def folder(make_policy: Any, tmp_path: Path) -> Any:
    return make_policy().save(tmp_path / "model")


def refusal(call: Any, *arguments: Any, kind: Any = PolicyError, **named: Any) -> str:
    with pytest.raises(kind) as refused:
        call(*arguments, **named)
    message = str(refused.value)
    assert "\n" not in message.strip()
    return message


def unverified(folder: Path) -> Any:
    """Loads without asking the manifest, so that what comes after it is tested too."""
    return load_policy(folder, verified=False)


FRAMES = [
    ("nan", lambda obs: {**obs, "cloud": np.full_like(obs["cloud"], np.nan)}, ["'cloud'", "not finite", "sensor"]),
    ("inf", lambda obs: {**obs, "joints": obs["joints"] / np.float32(0)}, ["'joints'", "not finite"]),
    ("missing", lambda obs: {"joints": obs["joints"]}, ["'cloud' is missing", "expects ['cloud', 'joints']"]),
    ("points", lambda obs: {**obs, "cloud": obs["cloud"][:, :7]}, ["'cloud' has shape (2, 7, 3)", "(2, 32, 3)"]),
    ("history", lambda obs: {k: f[0] for k, f in obs.items()}, ["has shape", "expects"]),
]


@pytest.mark.parametrize(("spoil", "words"), [f[1:] for f in FRAMES], ids=[f[0] for f in FRAMES])
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_a_frame_that_does_not_fit(
    make_policy: Any, frames: Callable[..., dict[str, np.ndarray]], spoil: Any, words: Any
) -> None:
    policy = make_policy()
    message = refusal(policy.act, spoil(frames(policy)))
    assert all(word in message for word in words), message


@pytest.mark.parametrize("warm", [np.zeros((4, 2)), np.full((5, 2), np.nan)])
def test_a_warm_start_that_does_not_fit(
    make_policy: Any, frames: Callable[..., dict[str, np.ndarray]], warm: Any
) -> None:
    policy = make_policy()
    assert "warm start" in refusal(policy.act, frames(policy), warm_start=warm)


def test_what_is_no_model_folder(folder: Any, tmp_path: Path) -> None:
    assert "lacks" in refusal(load_policy, tmp_path / "nowhere") and "difftop train" in refusal(load_policy, tmp_path)
    (folder / CONTRACT).unlink()
    assert f"lacks ['{CONTRACT}']" in refusal(load_policy, folder)


def test_weights_that_are_cut_short_or_of_another_kind(folder: Any) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:4], b"", b"PK\x03\x04 a zip file, say"):
        (folder / WEIGHTS).write_bytes(broken)
        message = refusal(unverified, folder)
        assert WEIGHTS in message and "cannot be read as safetensors" in message


def test_weights_of_another_policy(folder: Any, make_policy: Any, tmp_path: Path) -> None:
    other = make_policy(cost_width=40).save(tmp_path / "other")
    (folder / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())
    message = refusal(unverified, folder)
    assert "does not fit" in message and "expected (" in message and "take all three from one run" in message


def test_weights_that_are_not_finite(folder: Any) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["base.0.weight"][0, 0] = float("nan")
    save_file(weights, folder / WEIGHTS)
    assert "not finite in ['base.0.weight']" in refusal(unverified, folder)


CONFIGS = [
    ("horizn: 4\n", "has no settings ['horizn']; expected some of ['action_frame'"),
    ("horizon: four\n", "horizon is 'four'; expected a whole number"),
    ("horizon: true\n", "horizon is True; expected a whole number"),
    ("horizon: 0\n", "horizon is 0"),
    ("proximal: 0.0\n", "proximal"),
    ("solver: ilqr\n", "solver is 'ilqr'"),
    ("iterations: -1\n", "iterations is -1"),
    ("point_widths: []\n", "point_widths"),
    ("image_widths: [8, 8]\n", "image_widths"),
    ("- a list\n", "expected a mapping"),
    ("a: [1, 2\n", "not valid YAML"),
]


@pytest.mark.parametrize(("text", "words"), CONFIGS, ids=[c[0].strip() for c in CONFIGS])
def test_a_configuration_that_cannot_be(folder: Any, text: Any, words: Any) -> None:
    (folder / CONFIG).write_text(text)
    assert str(folder / CONFIG) in refusal(unverified, folder)
    assert words in refusal(unverified, folder)


def test_a_contract_that_cannot_be(folder: Any) -> None:
    text = (folder / CONTRACT).read_text()
    (folder / CONTRACT).write_text(text.replace("rate_hz: 20.0", "rate_hz: -1", 1))
    assert "rate_hz" in refusal(unverified, folder, kind=ContractError)


def test_weights_for_another_contract(folder: Any) -> None:
    contract = yaml.safe_load((folder / CONTRACT).read_text())
    contract["observations"]["cloud"]["color"] = True
    (folder / CONTRACT).write_text(yaml.safe_dump(contract))
    assert "does not fit" in refusal(unverified, folder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_gpu_that_is_not_there(folder: Any, name: str) -> None:
    message = refusal(load_policy, folder, name)
    assert f"device '{name}' was asked for" in message and "use device 'cpu'" in message
    assert resolve_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta"])
def test_a_device_that_does_not_exist(name: str) -> None:
    assert "expected 'cpu', 'cuda'" in refusal(resolve_device, name)


def test_a_config_survives_its_yaml() -> None:
    config = PolicyConfig(point_widths=(8, 9), base="diffusion", proximal=2.0, diffusion_steps=50)
    assert PolicyConfig.from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config
    assert PolicyConfig.from_dict({"proximal": 1}) == PolicyConfig(proximal=1.0)
    with pytest.raises(ValidationError, match="frozen"):
        config.horizon = 3  # type: ignore[misc]
