"""Set-up's scripts: what they do and say on machines that lack something. Other machines are played by a PATH."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("bash", "env", "grep", "cat", "true", "touch")


class Machine:
    """A folder of programs that is the whole PATH; `log` is what the pretended apt-get was asked to do."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.log = folder / "apt.log"
        for name in TOOLS:
            (self.bin / name).symlink_to(shutil.which(name) or name)

    def program(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def debian(self, *, installed: bool, user: int) -> None:
        """dpkg-query knows all packages or none; apt-get writes down what it is asked."""
        self.program("dpkg-query", "echo installed" if installed else "exit 1")
        self.program("id", f"echo {user}")
        self.program("apt-get", f'echo "$@" >> "{self.log}"')
        self.program("apt-cache", '[ "$2" != libosmesa6 ]')

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.bin / "bash"), str(ROOT / "tools" / script), *arguments]
        return subprocess.run(command, env={"PATH": str(self.bin)}, capture_output=True, text=True, timeout=30)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_nothing_is_done_when_all_is_installed(machine: Machine) -> None:
    machine.debian(installed=True, user=1000)
    result = machine.run("system_packages.sh")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not machine.log.exists()


def test_root_installs_and_says_what(machine: Machine) -> None:
    machine.debian(installed=False, user=0)
    result = machine.run("system_packages.sh")
    assert result.returncode == 0, result.stderr
    assert "installing system packages" in result.stdout and "libegl1" in result.stdout
    update, install = machine.log.read_text().splitlines()
    assert update.startswith("update")
    assert install.startswith("install") and "libgl1-mesa-dri" in install
    assert "libosmesa6" not in install  # this release has none


def test_a_plain_user_gets_the_command_for_an_administrator(machine: Machine) -> None:
    machine.debian(installed=False, user=1000)
    result = machine.run("system_packages.sh")
    assert result.returncode == 2
    assert "ask an administrator" in result.stderr and "apt-get install --no-install-recommends gcc" in result.stderr
    assert not machine.log.exists()


def test_another_distribution_is_told_what_is_needed(machine: Machine) -> None:
    result = machine.run("system_packages.sh")
    assert result.returncode == 0 and "not Debian or Ubuntu" in result.stderr


def test_the_running_python_is_fit() -> None:
    result = subprocess.run([ROOT / "tools/find_python.sh", sys.executable], capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stdout.strip()) == (0, sys.executable), result.stderr


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("echo 'it is Python 3.9, ROS 2 wheels and torch need 3.10 to 3.13'", "Python 3.9"),
        ("exit 1", "it cannot be run"),
    ],
    ids=["too old", "broken"],
)
def test_an_unfit_python_is_refused_with_the_reason(machine: Machine, answer: str, says: str) -> None:
    machine.program("python3.11", answer)
    chosen = machine.run("find_python.sh", "python3.11")
    assert chosen.returncode == 2 and says in chosen.stderr and "PYTHON=python3.11" in chosen.stderr
    searched = machine.run("find_python.sh")
    assert searched.returncode == 2 and "no usable Python 3.10 to 3.13" in searched.stderr and says in searched.stderr


def test_make_offers_the_documented_targets() -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    result = subprocess.run([make, "-C", ROOT, "help"], capture_output=True, text=True, timeout=30)
    for target in ("setup", "demo", "test", "pipeline", "lint", "docs", "colcon", "clean"):
        assert f"make {target}" in result.stdout


@pytest.fixture(scope="module")
def installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install_packages", ROOT / "tools/install_packages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_packages_come_in_groups_with_a_name_each(installer: ModuleType) -> None:
    groups = installer.groups(["ros", "theseus"])
    names = [name for name, _ in groups]
    assert names[2].startswith("ros: ros-rclpy") and names[4:] == ["theseus-ai itself", "difftop_ros itself"]
    assert "torch" in groups[1][1] and "ros-rclpy[fastrtps]" in groups[2][1]
    with pytest.raises(SystemExit, match=r"no extra 'rso' in setup\.py; it has ros, sim"):
        installer.groups(["rso"])


@pytest.mark.parametrize(
    ("line", "news"),
    [
        ("Downloading torch-2.13.0-cp311-cp311-manylinux.whl (915.1 MB)", "downloading torch (915 MB)"),
        (
            "Downloading https://host/x/nvidia_cudnn_cu13-9.20.0.48-py3-none.whl (1.2 GB)",
            "downloading nvidia_cudnn_cu13 (1200 MB)",
        ),
        ("Downloading six-1.17.0-py2.py3-none-any.whl (11 kB)", None),
        ("Downloading torch-2.13.0-cp311-cp311-manylinux.whl.metadata (30 kB)", None),
        ("Installing collected packages: mpmath, sympy, torch", "installing 3 packages"),
        ("Requirement already satisfied: numpy in .venv", None),
    ],
)
def test_large_downloads_are_announced(installer: ModuleType, line: str, news: str | None) -> None:
    assert installer.announced(line) == news


def test_a_failing_pip_is_shown_with_its_command(installer: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="pip failed"):
        installer.install(["--no-index", "no-such-package-of-ours"], [])
    assert "no-such-package-of-ours" in capfd.readouterr().err


def test_ci_installs_lints_builds_tests_and_demonstrates() -> None:
    text = (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK) and "set -euo pipefail" in text
    order = [text.index(f"make {target}") for target in ("setup", "lint", "docs", "colcon", "test", "demo")]
    assert order == sorted(order)
