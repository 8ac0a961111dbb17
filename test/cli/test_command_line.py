"""The `difftop` command: light and helpful when asked, one sentence and exit code 2 when it cannot do what is asked."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from difftop_ros.cli import VERBS, main
from difftop_ros.errors import UserError
from difftop_ros.paths import share_path

HEAVY = ("torch", "rclpy", "numpy", "cv2", "open3d", "mujoco", "lightning", "zarr", "pydantic", "rich", "scipy")
PROBE = f"""
import sys
from difftop_ros.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0, end.code
print("HEAVY", [name for name in {HEAVY!r} if name in sys.modules])
"""


def help_of(capsys: pytest.CaptureFixture, *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        main([*words, "--help"])
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    result = subprocess.run([sys.executable, "-c", PROBE, *words], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    options = words[0] in ("train", "train-rl", "bench")  # whose help comes from the fields of pydantic models
    assert result.stdout.splitlines()[-1] == f"HEAVY {['pydantic'] if options else []}"


def test_the_overview_teaches_the_four_steps(capsys: pytest.CaptureFixture) -> None:
    text = help_of(capsys)
    assert all(verb in text and summary[:30] in text for verb, summary in VERBS.items())
    for step in ("contract check", "difftop record", "difftop train", "difftop run"):
        assert step in text


OPTIONS = {
    ("demo",): ["--model", "--episodes", "--out"],
    ("contract", "check"): ["--live", "--bag", "--seconds"],
    ("record",): ["--contract", "--out", "--expert", "--episodes", "--seed", "--noise"],
    ("bag", "inspect"): ["--contract", "--strip"],
    ("bag", "ingest"): ["--contract", "--out"],
    ("train",): ["--bags", "--contract", "--out", "--dataset", "--steps", "--horizon", "--fresh", "--device", "--seed"],
    ("train-rl",): ["--env", "--out", "--steps", "--policy", "--plan-loss", "--eval-with", "--contract", "--fresh"],
    ("bench", "rl"): ["--tasks", "--methods", "--seeds", "--steps", "--csv", "--report"],
    ("eval",): ["--model", "--episodes", "--first-seed", "--min-successes", "--no-base"],
    ("model", "sign"): ["folder"],
    ("run",): ["--model", "--contract", "--sim-time", "--params-file"],
    ("view",): ["--bag", "--layouts", "--contract", "--out", "--serve"],
    ("sim",): ["--task", "--contract", "--realtime-factor", "--lockstep"],
    ("bench", "imitation"): ["--tasks", "--policies", "--seeds", "--demos", "--steps", "--csv", "--report"],
    ("bench", "obstacles"): ["--models", "--obstacles", "--arms", "--starts", "--film", "--csv", "--report"],
    ("pipeline",): ["--tasks", "--demos", "--steps", "--out", "--min-success"],
}


@pytest.mark.parametrize("words", OPTIONS, ids=" ".join)
def test_each_verb_explains_its_options(capsys: pytest.CaptureFixture, words: tuple[str, ...]) -> None:
    text = help_of(capsys, *words)
    assert all(option in text for option in OPTIONS[words])
    for option in re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE):
        explained = text.split(option, 2)[-1]
        assert re.search(r"\w{3,}", explained), option


def test_every_verb_is_listed() -> None:
    assert {words[0] for words in OPTIONS} == set(VERBS)
    folder = Path(share_path(".")) / "difftop_ros/commands"
    commands = {path.stem.replace("_", "-") for path in folder.glob("[a-z]*.py")}
    commands |= {path.parent.name.replace("_", "-") for path in folder.glob("*/__init__.py")}
    assert commands == {*VERBS, "arguments", "console", "signals", "dispatch"}


@pytest.fixture
def files(tmp_path: Path, arm: Any) -> dict[str, str]:
    (tmp_path / "empty").mkdir()
    (tmp_path / "model").mkdir()
    wrong = arm.text.replace("rate_hz: 20", "rate_hz: 20\nrate: 3", 1)
    (tmp_path / "wrong.yaml").write_text(wrong)
    (tmp_path / "text.yaml").write_text("just words")
    return {"tmp": str(tmp_path), "arm": str(arm.contract), "bags": str(arm.bags)}


REFUSED = [
    ("eval --model {tmp}/nowhere", "lacks"),
    ("eval --model {tmp}/model", "lacks ['model.safetensors', 'config.yaml', 'contract.yaml']"),
    ("eval --model {tmp}/model --episodes 0", "--episodes is 0"),
    ("train --bags {tmp}/nowhere --out {tmp}/m", "do not exist"),
    ("train --bags {tmp}/empty --contract {arm} --out {tmp}/m --eval-episodes 0", "no bag in"),
    ("train --bags {bags} --contract {arm} --out {tmp}/m --steps 0", "steps is 0"),
    ("train --bags {bags} --contract {arm} --out {tmp}/m --iterations -3", "iterations is -3"),
    ("train --bags {bags} --contract {tmp}/none.yaml --out {tmp}/m", "does not exist"),
    ("train --bags {bags} --contract {tmp}/wrong.yaml --out {tmp}/m", "unknown key 'rate'"),
    ("contract check {tmp}/wrong.yaml", "wrong.yaml:3"),
    ("contract check {tmp}/text.yaml", "expected a mapping"),
    ("contract check {arm} --bag {tmp}/empty", "{tmp}/empty"),
    ("bag inspect {tmp}/empty", "{tmp}/empty"),
    ("bag ingest {tmp}/empty --contract {arm} --out {tmp}/d", "no bag in"),
    ("run --model {tmp}/nowhere", "does not exist"),
    ("pipeline --demos 0", "--demos is 0"),
    ("bench obstacles --starts 0", "--starts is 0"),
    ("bench obstacles --arms hope", "expected of ['nothing'"),
    ("bench obstacles --models {tmp}/nowhere", "lacks"),
    ("bench obstacles --report --csv {tmp}/none.csv", "no rows yet"),
]


@pytest.mark.parametrize(("command", "words"), REFUSED, ids=[r[0].replace("{tmp}/", "") for r in REFUSED])
def test_what_cannot_be_done_is_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture, files: dict[str, str], command: str, words: str
) -> None:
    assert main(command.format(**files).split()) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert line.startswith(f"difftop {command.split()[0]}: ") and words.format(**files) in line
    assert not (Path(files["tmp"]) / "m").exists()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("", "required: VERB"),
        ("train", "required: --out"),
        ("eval --model m --episodes many", "invalid int value: 'many'"),
        ("fly", "there is no VERB 'fly'; there are bag, "),
        ("trian --out m", "there is no VERB 'trian'; did you mean train?"),
        ("--debgu eval", "there is no option --debgu; did you mean --debug?"),
        ("eval --epsiodes 3", "there is no option --epsiodes; did you mean --episodes?"),
        ("eval --model m --episods=3", "there is no option --episods; did you mean --episodes?"),
        ("bag inspcet b", "there is no JOB 'inspcet'; did you mean inspect?"),
        ("bag inspect b --stirp s.png", "there is no option --stirp; did you mean --strip?"),
    ],
)
def test_a_misspelt_command_shows_its_usage_and_what_was_meant(
    capsys: pytest.CaptureFixture, command: str, says: str
) -> None:
    with pytest.raises(SystemExit) as end:
        main(command.split())
    shown = capsys.readouterr().err
    assert end.value.code == 2 and "usage: difftop" in shown and says in shown


def test_beginnings_of_options_are_understood(files: dict[str, str]) -> None:
    assert main(["contract", "check", files["arm"], "--sec", "1"]) == 0


DEFAULTS = [
    ("eval", "--episodes", "20"),
    ("eval", "--disturbance", "0.0"),
    ("record", "--seed", "0"),
    ("pipeline", "--tasks", "reach push lift"),
    ("bench imitation", "--point-widths", "64 64 128"),
    ("demo", "--out", "demo_out"),
    ("contract check", "--seconds", "3.0"),
]


@pytest.mark.parametrize(("verb", "option", "default"), DEFAULTS)
def test_help_tells_the_default_once(capsys: pytest.CaptureFixture, verb: str, option: str, default: str) -> None:
    text = help_of(capsys, *verb.split()).split("options:")[1]
    explained = " ".join(re.split(r"\n  -", text.split(f"\n  {option} ")[1])[0].split())
    assert explained.count("(default: ") == 1 and f"(default: {default})" in explained


def test_the_overview_is_quick() -> None:
    """Half a second on a quiet machine; the processor's time is measured, for others use it too."""
    command = [sys.executable, "-c", "import sys; from difftop_ros.cli import main; main(['--help'])"]
    best = 9.0
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert best < 0.5


def test_debug_shows_the_traceback(files: dict[str, str]) -> None:
    with pytest.raises(UserError, match="lacks"):
        main(["--debug", "eval", "--model", f"{files['tmp']}/nowhere"])


@pytest.mark.parametrize(
    ("package", "command", "words"),
    [
        ("lightning", "train --bags {bags} --contract {arm} --out {tmp}/m", "'difftop_ros[train]'"),
        ("mujoco", "train --bags {bags} --contract {arm} --task reach --out {tmp}/m", "eval_episodes 0 does without"),
        ("rclpy", "sim --task reach", "rclpy"),
    ],
)
def test_a_package_of_an_extra_that_is_missing(files: dict[str, str], package: str, command: str, words: str) -> None:
    """As on a machine without the extra: the package cannot be found there."""
    hide = (
        "import sys, importlib.abc, importlib.util\n"
        "class Hidden(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] == {package!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "real = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *a: None if name == {package!r} else real(name, *a)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "from difftop_ros.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    run = [sys.executable, "-c", hide, *command.format(**files).split()]
    result = subprocess.run(run, capture_output=True, text=True, timeout=100)
    assert result.returncode == 2, result.stderr
    assert words in result.stderr and "Traceback" not in result.stderr
    assert not (Path(files["tmp"]) / "m" / "checkpoints").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_between_steps_and_the_same_command_goes_on(
    spawn: Callable[..., Any], files: dict[str, str], number: int
) -> None:
    model = Path(files["tmp"]) / "m"
    command = [sys.executable, "-m", "difftop_ros.cli", "train", "--bags", files["bags"], "--contract", files["arm"]]
    command += ["--out", str(model), "--dataset", files["tmp"] + "/d"]
    command += ["--batch", "8", "--horizon", "4", "--threads", "1"]
    first = spawn([*command, "--steps", "4000"])
    first.wait_for("steps/s", 60)
    os.kill(first.pid, number)
    assert first.wait(30) == 130
    (kept,) = (model / "checkpoints").glob("step=*.ckpt")
    step = int(kept.stem.split("=")[1])
    assert f"stopped after step {step} of 4000" in first.output() and "Traceback" not in first.output()
    if number == signal.SIGTERM:
        return  # one resumed run is enough
    second = spawn([*command, "--steps", str(step + 2)])
    assert second.wait(60) == 0, second.output()
    assert f"going on from step {step}" in second.output() and (model / "README.md").is_file()
