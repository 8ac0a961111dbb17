"""The demo's child processes: started with a log, watched, ended with everything they started. No ROS here.

Each child leads a session of its own, so that Ctrl-C in the terminal reaches the demo alone, which then ends its
children in order; and the kernel ends them should the demo itself be killed.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from difftop_ros import signals
from difftop_ros.errors import UserError

TAIL_LINES = 12
_PR_SET_PDEATHSIG = 1
DOMAINS = range(1, 101)  # above 101 the ports of a domain reach into Linux's ephemeral range


class Child:
    """A Python module run as a process; what it prints goes to `log`."""

    def __init__(self, name: str, module: str, ros_arguments: list[str], log: Path, env: Mapping[str, str]) -> None:
        self.name, self.log = name, log
        with log.open("wb") as sink:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", module, "--ros-args", *ros_arguments], env={**env, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=_end_with_parent(),
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Its process id, which is that of its session and group too."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._popen.poll() is None

    def check(self) -> None:
        """Raises UserError with the last lines of its log if it has ended."""
        code = self._popen.poll()
        if code is not None:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise UserError(f"{self.name} {how}; {self.last_words()}")

    def last_words(self) -> str:
        """'the last lines of <log>: ...', for error messages."""
        lines = self.log.read_text(errors="replace").rstrip().splitlines()[-TAIL_LINES:]
        shown = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
        return f"the last lines of {self.log}:\n{shown}"

    def stop(self, patience_s: float = 6.0) -> None:
        """Ends it and everything it started: SIGTERM, a bounded wait, SIGKILL for what is left."""
        if self.alive:
            self._popen.terminate()
            try:
                self._popen.wait(patience_s)
            except subprocess.TimeoutExpired:
                pass  # the group is killed below
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nothing of it is left, as it should be
        self._popen.wait(5.0)


def _end_with_parent() -> Callable[[], None] | None:
    """What a child calls before it starts: on Linux, 'send me SIGTERM when my parent dies'."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: little may be done between fork and exec
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def free_domain() -> int:
    """A ROS domain id that nothing on this machine uses now: the first participant's ports can be bound."""
    start = secrets.randbelow(len(DOMAINS))
    for offset in range(len(DOMAINS)):
        domain = DOMAINS[(start + offset) % len(DOMAINS)]
        if domain_is_free(domain):
            return domain
    raise UserError(f"all ROS domains {DOMAINS.start}..{DOMAINS.stop - 1} are in use; set ROS_DOMAIN_ID to share one")


def domain_is_free(domain: int) -> bool:
    """Whether no node of this machine uses the ROS domain now."""
    return all(_port_is_free(7400 + 250 * domain + extra) for extra in (0, 10, 12))


def _port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


class Interrupted(KeyboardInterrupt):
    """An ending signal arrived; the first one wins and starts the clean-up, later ones are ignored."""


class SignalsAsException:
    """Within the `with` block the ending signals raise Interrupted in the main thread, once; afterwards as before."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}

    def __enter__(self) -> SignalsAsException:
        self._before = signals.catch(self._raise)
        return self

    def resume(self) -> None:
        """Undoes `ignore`."""
        for number in self._before:
            signal.signal(number, self._raise)

    def _raise(self, number: int, frame: Any) -> None:
        self.ignore()
        raise Interrupted(signal.Signals(number).name)

    def ignore(self) -> None:
        """From now on the signals do nothing: clean-up is bounded in time and must not be torn."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def __exit__(self, *_: object) -> None:
        signals.restore(self._before)


def wait_until(
    condition: Callable[[], bool], timeout_s: float, children: list[Child], why: Callable[[], str], poll_s: float = 0.02
) -> None:
    """Waits for `condition`; UserError when a child ends meanwhile, or with why() when the time is up."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        for child in children:
            child.check()
        if time.monotonic() > deadline:
            raise UserError(why())
        time.sleep(poll_s)
