#!/usr/bin/env bash
# Builds the package with colcon against ROS 2 from pip wheels: the proof that the ROS package is real.
# Lives here: the settings which the wheels need. On a ROS 2 installation a plain `colcon build` does.
# Usage: tools/colcon_build.sh [BASE_FOLDER]     (default: build-colcon/; leaves build/, install/ and log/ there)
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
venv="${VENV:-$root/.venv}"
base="$(mkdir -p "${1:-$root/build-colcon}" && cd "${1:-$root/build-colcon}" && pwd)"
if [ ! -x "$venv/bin/colcon" ]; then
  echo "colcon_build: $venv/bin/colcon is missing; run 'make colcon', which installs it" >&2
  exit 2
fi
# The wheels' Python modules (ament_package, catkin_pkg, ...) are found through the virtual environment's python3.
export PATH="$venv/bin:$PATH" AMENT_PREFIX_PATH="$venv" CMAKE_PREFIX_PATH="$venv" VIRTUAL_ENV="$venv"
cd "$base"
if ! "$venv/bin/colcon" --log-base "$base/log" build \
  --base-paths "$root" --packages-select difftop_ros \
  --build-base "$base/build" --install-base "$base/install" \
  --event-handlers console_direct- console_stderr- desktop_notification- status- \
  --cmake-args -G Ninja -DBUILD_TESTING=OFF -DCMAKE_BUILD_TYPE=Release --no-warn-unused-cli \
  "-DPython3_EXECUTABLE=$venv/bin/python3" "-DPYTHON_EXECUTABLE=$venv/bin/python3" -DPython3_FIND_VIRTUALENV=ONLY \
  "-DCMAKE_PROJECT_INCLUDE=$root/tools/cmake/pip_wheels.cmake"
then
  echo "colcon_build: failed; the end of $base/log/latest_build/difftop_ros/stdout_stderr.log:" >&2
  tail -n 40 "$base/log/latest_build/difftop_ros/stdout_stderr.log" >&2
  exit 1
fi
