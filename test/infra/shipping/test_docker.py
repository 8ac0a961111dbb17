"""The container's files: what they name exists, commands parse. Building the image needs a container engine."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from difftop_ros.commands.dispatch import main

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())


def test_system_packages_are_those_of_set_up() -> None:
    (required,) = re.findall(r'^required="(.+)"$', (ROOT / "tools/system_packages.sh").read_text(), re.MULTILINE)
    assert required in DOCKERFILE


def test_extras_and_files_exist() -> None:
    (extras,) = re.findall(r"--extras (\S+)", DOCKERFILE)
    known = re.findall(r'^    "(\w+)": \[', (ROOT / "setup.py").read_text(), re.MULTILINE)
    assert set(extras.split(",")) <= set(known)
    for path in re.findall(r"src/difftop_ros/(\S+\.(?:py|sh))", DOCKERFILE):
        assert (ROOT / path.rstrip('"]')).is_file(), path
    assert (ROOT / "docker/entrypoint.sh").stat().st_mode & 0o111


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_service_runs_a_command_that_parses(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    service = COMPOSE["services"][name]
    assert (service["network_mode"], service["ipc"]) == ("host", "host")
    assert (ROOT / "docker" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    words = shlex.split(service["command"])
    assert words[0] == "difftop"
    with pytest.raises(SystemExit) as ended:  # --help comes after everything before it was parsed
        main([*words[1:], "--help"])
    assert ended.value.code == 0 and "usage: difftop" in capsys.readouterr().out
    for word in words:
        if word.startswith("/ws/src/difftop_ros/"):
            assert (ROOT / word.removeprefix("/ws/src/difftop_ros/")).exists()
