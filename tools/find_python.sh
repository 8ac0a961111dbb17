#!/usr/bin/env bash
# Prints a Python 3.10 to 3.13 that can make virtual environments and has C headers; says what is wrong otherwise.
# Usage: tools/find_python.sh [PYTHON]       PYTHON: the user's choice, taken or refused, never replaced
set -euo pipefail

# Prints nothing when the interpreter is fit, else the reason.
unfit() {
  "$1" - <<'PYTHON' 2>/dev/null || echo "it cannot be run"
import os, sys, sysconfig
if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    print("it is Python %d.%d, ROS 2 wheels and torch need 3.10 to 3.13" % sys.version_info[:2])
    raise SystemExit
try:
    import ensurepip, venv
except ImportError as error:
    print("it cannot make virtual environments (%s); install python%d.%d-venv" % ((error,) + sys.version_info[:2]))
    raise SystemExit
if not os.path.isfile(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
    print("its C headers are missing; install python%d.%d-dev" % sys.version_info[:2])
PYTHON
}

if [ -n "${1:-}" ]; then
  reason="$(unfit "$1")"
  if [ -n "$reason" ]; then
    echo "setup: PYTHON=$1 cannot be used: $reason" >&2
    exit 2
  fi
  command -v "$1"
  exit 0
fi
reasons=""
for name in python3.12 python3.11 python3.13 python3.10 python3; do
  command -v "$name" >/dev/null || continue
  reason="$(unfit "$name")"
  if [ -z "$reason" ]; then
    command -v "$name"
    exit 0
  fi
  reasons="$reasons; $name: $reason"
done
echo "setup: no usable Python 3.10 to 3.13 was found (choose one with PYTHON=...)$reasons" >&2
exit 2
