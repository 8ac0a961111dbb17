#!/usr/bin/env bash
# Installs the system libraries that set-up and rendering need, on Debian and Ubuntu; does nothing when all are there.
# Lives here: the list of packages and the question how to get root. Not here: anything from pip.
# Usage: tools/system_packages.sh [--check]        exit code 0: all there; 2: something is missing and cannot be installed
set -euo pipefail

# Compilers and headers for the ROS messages; EGL and OpenGL for rendering without a display; open3d's libraries.
required="gcc g++ python3 python3-venv python3-dev libegl1 libgl1-mesa-dri libopengl0 libgl1 libusb-1.0-0 libgomp1"
# Software rendering, used when EGL fails; newer releases no longer have it.
optional="libosmesa6"

if ! command -v dpkg-query >/dev/null; then
  echo "setup: not Debian or Ubuntu: please see that the equivalents of these are installed: $required" >&2
  exit 0
fi
installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
missing=""
for package in $required; do installed "$package" || missing="$missing $package"; done
wanted=""
for package in $optional; do installed "$package" || wanted="$wanted $package"; done

if [ -n "$missing" ] && [ "${1:-}" = --check ]; then
  echo "setup: missing system packages:$missing" >&2
  exit 2
fi
if [ -z "$missing" ]; then
  exit 0
fi
if [ "$(id -u)" = 0 ]; then
  as_root=""
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
  as_root="sudo"
else
  echo "setup: system packages are missing and this user can neither be root nor use sudo; ask an administrator for:" >&2
  echo "  apt-get install --no-install-recommends$missing" >&2
  exit 2
fi
export DEBIAN_FRONTEND=noninteractive
echo "setup: installing system packages with apt:$missing"
$as_root apt-get update -qq
for package in $wanted; do
  if apt-cache show "$package" >/dev/null 2>&1; then missing="$missing $package"; fi
done
# shellcheck disable=SC2086  # a list of words is meant
$as_root apt-get install -y -qq --no-install-recommends $missing
