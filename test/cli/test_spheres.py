"""`difftop contract spheres`: a file that the robot's model reads, a picture that shows something, and refusals."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from difftop_ros.cli import main
from difftop_ros.costs import RobotModel, Spheres
from difftop_ros.paths import share_path

PANDA = share_path("models/panda_table/panda.xml")


def test_a_file_and_a_picture(tmp_path: Path) -> None:
    out, png = tmp_path / "spheres.yaml", tmp_path / "spheres.png"
    words = ["contract", "spheres", str(PANDA), "--count", "30", "--out", str(out), "--picture", str(png)]
    assert main(words) == 0
    robot = RobotModel(PANDA, ["panda_joint1"], spheres=Spheres.load(out))
    assert len(robot.radii) == 30
    image = cv2.imread(str(png))
    assert image.shape == (600, 800, 3)
    blue = (image[:, :, 0].astype(int) - image[:, :, 2]) > 40
    assert 0.01 < blue.mean() < 0.5


def test_what_cannot_be_covered_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["contract", "spheres", str(PANDA), "--out", str(tmp_path / "s.yaml")]
    assert main([*words, "--count", "3"]) == 2
    assert "shapes; expected between 1 and the 3 spheres" in capsys.readouterr().err
    assert main(["contract", "spheres", str(tmp_path / "none.xml"), *words[3:]]) == 2
    assert "does not exist" in capsys.readouterr().err
    (tmp_path / "none.xml").write_bytes(b"<mujoco><worldbody><body name='\xff'/></worldbody></mujoco>")
    assert main(["contract", "spheres", str(tmp_path / "none.xml"), *words[3:]]) == 2
    assert "cannot be read by MuJoCo" in capsys.readouterr().err
