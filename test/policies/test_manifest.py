"""A model folder is what was trained, or it is refused by the name of the file that is not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file

from difftop_ros.cli import main
from difftop_ros.manifest import MANIFEST, sign, verify
from difftop_ros.policies import PolicyError, load_policy
from difftop_ros.policies.policy import CONFIG, CONTRACT, WEIGHTS

MODELS = Path(__file__).resolve().parents[2] / "models"


@pytest.fixture
def folder(make_policy: Any, tmp_path: Path) -> Path:
    return make_policy().save(tmp_path / "model")


@pytest.mark.parametrize("name", sorted(path.parent.name for path in MODELS.glob(f"*/{WEIGHTS}")))
def test_shipped_manifests_are_right(name: str) -> None:
    verify(MODELS / name)


def flip_a_bit(folder: Path) -> None:
    raw = bytearray((folder / WEIGHTS).read_bytes())
    raw[-2] ^= 0x40  # of an exponent: the value stays finite
    (folder / WEIGHTS).write_bytes(raw)


def tamper_the_scaler(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["scaler.half_range"] *= 3
    save_file(weights, folder / WEIGHTS)


def exchange_joints(folder: Path) -> None:
    contract = yaml.safe_load((folder / CONTRACT).read_text())
    contract["command"]["joints"].reverse()
    (folder / CONTRACT).write_text(yaml.safe_dump(contract))


def take_another_config(folder: Path) -> None:
    config = yaml.safe_load((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(yaml.safe_dump({**config, "iterations": 3}))


def add_a_file(folder: Path) -> None:
    shutil.copy(folder / WEIGHTS, folder / "more.safetensors")


@pytest.mark.parametrize(
    ("change", "file"),
    [
        (flip_a_bit, f"{WEIGHTS} has changed"),
        (tamper_the_scaler, f"{WEIGHTS} has changed"),
        (exchange_joints, f"{CONTRACT} has changed"),
        (take_another_config, f"{CONFIG} has changed"),
        (add_a_file, "more.safetensors is not listed"),
        (lambda folder: (folder / MANIFEST).unlink(), f"has no {MANIFEST}"),
        (lambda folder: (folder / MANIFEST).write_text("[" * 100_000), "is no manifest"),
        (lambda folder: (folder / MANIFEST).write_text('{"sha256": {"a": 1}}'), "is no manifest"),
        (
            lambda folder: (folder / MANIFEST).write_text('{"sha256": {"a.safetensors": ""}}'),
            "a.safetensors is missing",
        ),
    ],
)
def test_a_file_that_differs_is_named_with_the_remedy(folder: Path, change: Any, file: str) -> None:
    change(folder)
    with pytest.raises(PolicyError) as refused:
        load_policy(folder)
    assert file in str(refused.value) and "difftop model sign" in str(refused.value)


def test_a_change_that_was_meant_is_signed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (folder / CONTRACT).read_text()
    (folder / CONTRACT).write_text(text.replace("velocity: 4.0", "velocity: 3.0"))
    assert main(["model", "check", str(folder)]) == 2 and f"{CONTRACT} has changed" in capsys.readouterr().err
    assert main(["model", "sign", str(folder)]) == 0 and main(["model", "check", str(folder)]) == 0
    assert load_policy(folder).contract.command.joints[0].velocity == 3.0


def test_what_cannot_be_loaded_is_not_signed(folder: Path) -> None:
    before = (folder / MANIFEST).read_bytes()
    (folder / CONFIG).write_text("policy: nonsense\n")
    assert main(["model", "sign", str(folder)]) == 2 and (folder / MANIFEST).read_bytes() == before


HUGE = [
    {"horizon": 10**9}, {"horizon": 10**400}, {"obs_steps": 10**6}, {"features": 30_000}, {"bc_width": 30_000},
    {"cost_width": 8192, "features": 8192, "horizon": 1000}, {"point_widths": [4096] * 16}, {"hidden": 30_000},
    {"point_widths": [64] * 1000}, {"keypoints": 10**6}, {"latent_samples": 10**9},
    {"image_widths": [4096, 4096, 8192]},
]  # fmt: skip


@pytest.mark.parametrize("sizes", HUGE, ids=lambda sizes: ",".join(sizes))
def test_sizes_are_refused_before_a_network_is_built(
    folder: Path, sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from difftop_ros.policies import policy

    config = yaml.safe_load((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(yaml.safe_dump({**config, **sizes}))
    sign(folder)
    built: set[str] = set()
    make_net = policy.make_acting_net

    def watched(*args: Any) -> Any:
        net = make_net(*args)
        built.update(parameter.device.type for parameter in net.parameters())
        return net

    monkeypatch.setattr(policy, "make_acting_net", watched)
    with pytest.raises(PolicyError):
        load_policy(folder)
    assert built <= {"meta"}  # shapes alone, no memory
