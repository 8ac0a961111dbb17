"""An option is written once: its field is seen in the settings, the command line, the parameter file and the docs."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from difftop_ros.learning import options
from difftop_ros.learning.settings import AugmentSettings, TrainingError, TrainSettings
from difftop_ros.nodes.trainer.parameters import parameters
from difftop_ros.policies import PolicyConfig, PolicyError
from difftop_ros.policies.builtin import DifftopOptions
from tools import write_options

ROOT = Path(__file__).resolve().parents[2]


def help_text() -> str:
    parser = argparse.ArgumentParser(prog="difftop train")
    options.add_to(parser)
    return " ".join(parser.format_help().split())


def test_the_written_files_are_as_the_options_say() -> None:
    assert (ROOT / write_options.PARAMETER_FILE).read_text() == write_options.parameter_file()
    shown = 0
    for name in write_options.PAGES:
        text = (ROOT / name).read_text()
        assert text == write_options.page(text)
        shown += sum(len(options.documented()[title]) for _, title, _ in write_options.MARKED.findall(text))
    assert shown == sum(len(found) for found in options.documented().values()), "every option stands in a table"


@pytest.mark.parametrize(
    ("model", "name", "value", "section"),
    [(TrainSettings, "batch", 77, "training"), (DifftopOptions, "latent_modes", 77, "difftop")],
    ids=["batch", "latent_modes"],
)
def test_another_default_is_seen_everywhere(
    model: type, name: str, value: int, section: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    field: FieldInfo = model.model_fields[name]  # type: ignore[attr-defined]
    flag = f"--{name.replace('_', '-')}"
    before = {"help": help_text(), "file": write_options.parameter_file(), "table": options.table(section)}
    monkeypatch.setattr(field, "default", value)
    assert f"{field.description} (default: {value})" in help_text() != before["help"]
    assert f"    {name}: {value}\n" in write_options.parameter_file() != before["file"]
    assert f"| `{flag}` | `{value}` | {field.description} |" in options.table(section) != before["table"]
    assert {p.name: p.default for p in parameters()}[name] == value


def test_every_line_of_help_says_a_default() -> None:
    text = help_text()
    for found in options.sections().values():
        for option in found:
            assert f"{option.description} (default: " in text, option.name


def test_no_option_stands_twice() -> None:
    names = [option.name for found in options.sections().values() for option in found]
    assert len(names) == len(set(names))


def test_help_answers_at_once_and_without_torch() -> None:
    probe = (
        "import json, sys; from difftop_ros.cli import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print(json.dumps(sorted({'torch', 'numpy', 'lightning', 'cv2'} & set(sys.modules))))"
    )
    start = time.monotonic()
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True)
    seconds = time.monotonic() - start
    assert json.loads(result.stdout.splitlines()[-1]) == []
    assert "--latent-modes" in result.stdout
    assert seconds < 5  # 0.3 s on a quiet core


def test_values_become_settings_and_none_keeps_the_default() -> None:
    values = {"horizon": 7, "steps": 11, "joint_noise": 0.5, "proximal": 2.0, "lr": None, "unrelated": 3}
    settings = TrainSettings.from_values(values)
    assert (settings.policy.horizon, settings.steps, settings.augment.joint_noise) == (7, 11, 0.5)
    assert settings.policy == PolicyConfig(horizon=7, proximal=2.0)
    assert settings.lr == TrainSettings().lr


def test_an_option_of_another_policy_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"policy bc has no settings \['iterations'\], which belong to \['difftop'\]"):
        TrainSettings.from_values({"policy": "bc", "iterations": 3})


def test_parameters_at_their_defaults_say_nothing() -> None:
    values = {parameter.name: parameter.default for parameter in parameters()}
    assert options.changed(values) == {}
    assert options.changed({**values, "point_widths": [8, 9], "lr": 0.1}) == {"point_widths": (8, 9), "lr": 0.1}


def test_settings_survive_their_record(tmp_path: Path) -> None:
    settings = TrainSettings(policy=PolicyConfig(base="ibc"), augment=AugmentSettings(joint_noise=0.2), seed=3)
    settings.record(tmp_path, {"contract": "abc"})
    settings.check_resumable(tmp_path, {"contract": "abc"})
    with pytest.raises(TrainingError, match=r"policy\.ibc_negatives was 64, is 9"):
        policy = settings.policy.replace(ibc_negatives=9)
        settings.replace(policy=policy).check_resumable(tmp_path, {"contract": "abc"})
    with pytest.raises(TrainingError, match=r"policy\.base was 'ibc', is 'bc'"):
        settings.replace(policy=PolicyConfig()).check_resumable(tmp_path, {"contract": "abc"})
