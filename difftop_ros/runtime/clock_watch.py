"""What is odd about simulated time as it arrives: it stands, jumps or jitters. Told here; acted upon in clock.py.

A simulation that is paused or has ended, one that was reset or stalled, and a publisher that stamps unevenly look alike
to whoever only sees a robot that does nothing.
"""

from __future__ import annotations

from collections import deque

import numpy as np

STANDS_S = 1.0  # of wall time without simulated time going on
JUMP_S = 0.2  # of simulated time beyond what has passed
BACK_S = 0.05  # of simulated time that goes back, where less is jitter
JUMP_STEPS = 3.0  # and so many usual steps: a clock of few messages goes in large ones
JITTER_MS = 15.0  # see jitter_ms
LONG_S = 5.0  # that a jump is told
SPAN_S = 2.0  # of messages that are looked at
FEWEST = 10  # messages for a judgement


class ClockWatch:
    """Sees each /clock message; used by one thread at a time."""

    def __init__(self) -> None:
        self.jumps = 0
        self._seen: deque[tuple[float, int]] = deque()
        self._went_on: tuple[float, int] | None = None
        self._jump: tuple[float, float] | None = None  # when [s of wall time], and by how much [s]

    def see(self, wall_s: float, sim_ns: int) -> None:
        """A message came at `wall_s` [s, steady] and said `sim_ns` [ns]."""
        if self._seen:
            by_s = self._jumped_s(wall_s, sim_ns)
            if by_s:
                self.jumps += 1
                self._jump = (wall_s, by_s)
                self._seen.clear()
        if self._went_on is None or sim_ns != self._went_on[1]:
            self._went_on = (wall_s, sim_ns)
        self._seen.append((wall_s, sim_ns))
        while wall_s - self._seen[0][0] > SPAN_S:
            self._seen.popleft()

    def _jumped_s(self, wall_s: float, sim_ns: int) -> float:
        last_wall, last_sim = self._seen[-1]
        step_s = (sim_ns - last_sim) / 1e9
        if step_s < -BACK_S:
            return step_s
        if len(self._seen) < FEWEST:
            return 0.0
        walls, sims = self._arrays()
        rate = (sims[-1] - sims[0]) / max(walls[-1] - walls[0], 1e-3)
        ahead = step_s - rate * (wall_s - last_wall)
        return ahead if ahead > max(JUMP_S, JUMP_STEPS * float(np.median(np.diff(sims)))) else 0.0

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Wall and simulated times [s] (n,) of the messages looked at, from the first one on."""
        first_wall, first_sim = self._seen[0]
        seen = [(wall - first_wall, (sim - first_sim) / 1e9) for wall, sim in self._seen]
        walls, sims = np.array(seen).T
        return walls, sims

    def jitter_ms(self) -> float:
        """How unevenly it runs [ms]: by how much messages' times are off, from the steps of 80 % of them.

        By steps, so that a simulation that changes its speed, or is paused, does not seem uneven.
        """
        if len(self._seen) < FEWEST:
            return 0.0
        walls, sims = self._arrays()
        rate = (sims[-1] - sims[0]) / max(walls[-1] - walls[0], 1e-3)
        low, high = np.percentile(np.diff(sims) - rate * np.diff(walls), (10, 90))
        return float(high - low) / 2 / np.sqrt(2) * 1e3

    def finding(self, wall_s: float) -> str:
        """What is odd at `wall_s` [s], '' if nothing is."""
        if self._went_on is None:
            return ""
        stood_s = wall_s - self._went_on[0]
        if stood_s > STANDS_S:
            at = self._went_on[1] / 1e9
            return f"'/clock' stands at {at:.2f} s, for {stood_s:.1f} s by now: the simulation is paused, or has ended"
        if self._jump is not None and wall_s - self._jump[0] < LONG_S:
            when, by_s = self._jump
            where = "ahead" if by_s > 0 else "back"
            return (
                f"'/clock' jumped {abs(by_s):.2f} s {where}, {wall_s - when:.1f} s ago ({self.jumps} jumps in all): a "
                "reset, a stall, or a second publisher"
            )
        jitter = self.jitter_ms()
        if jitter > JITTER_MS:
            return f"'/clock' jitters by {jitter:.0f} ms: check what publishes it, and free the machine"
        return ""
