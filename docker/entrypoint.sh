#!/usr/bin/env bash
# Runs a command with ROS, the workspace and the virtual environment in place.
set -eo pipefail
source /opt/ros/jazzy/setup.bash
source /ws/install/setup.bash
source /venv/bin/activate
exec "$@"
