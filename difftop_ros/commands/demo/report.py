"""The demo's figures: what was heard over all episodes becomes rates, latencies and a table. No ROS calls here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros.commands.demo.closed_loop import Episode
from difftop_ros.nodes.simulation.monitor import seconds


def counters(episode: Episode) -> dict[str, int]:
    """What the policy node counted in one activation: plans, ticks, ticks lost, commands, holds."""
    newest = episode.heard.solver[-1] if episode.heard.solver else None
    final = episode.heard.diagnostics[-1] if episode.heard.diagnostics else {}

    def number(key: str, field: str) -> int:
        told = getattr(newest, field, 0)
        return max(int(float(final.get(key, 0) or 0)), told)

    holds = [s.holding for s in episode.heard.solver]
    return {
        "plans": number("plans", "plans"),
        "ticks": number("ticks", "ticks"),
        "ticks_lost": number("ticks_lost", "ticks_lost"),
        "commands": number("commands_published", "commands_published"),
        "holds": sum(now and not before for before, now in zip([False, *holds], holds)),
    }


def plan_statuses(episode: Episode) -> list[Any]:
    """The SolverStatus of each plan, one per solve: while holding the node repeats the last one."""
    return list({s.sequence: s for s in reversed(episode.heard.solver) if s.status}.values())[::-1]


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """p50, p99 and max of numbers, NaN for none."""
    numbers = list(values)
    if not numbers:
        return {"p50": math.nan, "p99": math.nan, "max": math.nan}
    return {"p50": _q(numbers, 50), "p99": _q(numbers, 99), "max": float(max(numbers))}


def _q(numbers: Sequence[float], rank: float) -> float:
    return float(np.percentile(np.asarray(numbers, np.float64), rank))


def _rate(statuses: list[Any], field: str) -> tuple[float, float]:
    """How much a counter grew over an episode's statuses, and the simulated seconds it took."""
    if len(statuses) < 2:
        return 0.0, 0.0
    grown = getattr(statuses[-1], field) - getattr(statuses[0], field)
    return float(grown), seconds(statuses[-1].header.stamp) - seconds(statuses[0].header.stamp)


def total_rate(episodes: Sequence[Episode], field: str) -> float:
    """A counter's rate per simulated second over all episodes, NaN when nothing was counted."""
    pairs = [_rate(e.heard.solver, field) for e in episodes]
    span = sum(s for _, s in pairs)
    return sum(n for n, _ in pairs) / span if span > 0 else math.nan


def _lateness(episodes: Sequence[Episode]) -> dict[str, float]:
    """Of control ticks: p50 is the median episode's, p99 and max the worst episode's (the node keeps percentiles)."""
    finals = [e.heard.diagnostics[-1] for e in episodes if e.heard.diagnostics]
    told = {
        key: [float(f[name]) for f in finals if f.get(name, "-") != "-"]
        for key, name in (("p50", "lateness_p50_ms"), ("p99", "lateness_p99_ms"), ("max", "lateness_max_ms"))
    }
    if not told["p50"]:
        return percentiles([])
    return {"p50": float(np.median(told["p50"])), "p99": max(told["p99"]), "max": max(told["max"])}


def summarise(episodes: Sequence[Episode], minimum: int, facts: dict[str, Any]) -> dict[str, Any]:
    """Plain data of the whole run; `facts` (model, contract, machine, ...) come first."""
    statuses = [s for e in episodes for s in plan_statuses(e)]
    counts = [counters(e) for e in episodes]
    factors = [float(p["realtime_factor"]) for e in episodes for p in e.heard.pace if "realtime_factor" in p]
    names: list[str] = [s.status for s in statuses]
    return {
        **facts,
        "episodes": [
            {"seed": e.seed, "success": e.success, "seconds": round(e.seconds, 2), "note": e.note, **_met(e), **c}
            for e, c in zip(episodes, counts, strict=True)
        ],
        "successes": sum(e.success for e in episodes),
        "minimum": minimum,
        "planning_rate_hz": total_rate(episodes, "plans"),
        "control_rate_hz": total_rate(episodes, "commands_published"),
        "ticks": sum(c["ticks"] for c in counts),
        "ticks_lost": sum(c["ticks_lost"] for c in counts),
        "holds": sum(c["holds"] for c in counts),
        "observe_ms": percentiles(s.observe_ms for s in statuses),
        "encode_ms": percentiles(s.encode_ms for s in statuses),
        "solve_ms": percentiles(s.solve_ms for s in statuses),
        "observation_age_ms": percentiles(s.observation_age_ms for s in statuses),
        "tick_lateness_ms": _lateness(episodes),
        "solver_status": {name: names.count(name) for name in sorted(set(names))},
        "solver_iterations": percentiles(s.iterations for s in statuses),
        "realtime_factor": float(np.mean(factors)) if factors else math.nan,
    }


def _met(episode: Episode) -> dict[str, Any]:
    """What came of an obstacle, where there was one."""
    if episode.nearest_mm is None:
        return {}
    return {"touched": [pair for pair, _ in episode.touched], "nearest_mm": episode.nearest_mm}


def facts(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """For a table: successes and rates."""
    asked, total = summary["asked"], len(summary["episodes"])
    lost = f"asked {asked['control_hz']:g} Hz, {summary['ticks_lost']} of {summary['ticks']} ticks lost"
    parts = (
        ("success", f"{summary['successes']} of {total}", f"at least {summary['minimum']} asked"),
        ("planning", f"{summary['planning_rate_hz']:.1f} Hz", f"asked {asked['planning_hz']:g} Hz"),
        ("control", f"{summary['control_rate_hz']:.1f} Hz", lost),
        ("simulation", f"{summary['realtime_factor']:.2f} x real time", ""),
        ("holds", str(summary["holds"]), ""),
    )
    return [dict(zip(("figure", "measured", "note"), part, strict=True)) for part in parts]


def latencies(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """For a table: what took how long [ms]."""
    named = {
        "observe": "observe_ms", "encode": "encode_ms", "solve": "solve_ms",
        "observation age": "observation_age_ms", "tick lateness": "tick_lateness_ms",
    }  # fmt: skip
    return [{"latency [ms]": name, **summary[key]} for name, key in named.items()]


def line(number: int, total: int, episode: Episode) -> str:
    """One episode in one line."""
    count = counters(episode)
    result = "success" if episode.success else "FAILED "
    text = (
        f"episode {number:2d}/{total}  seed {episode.seed}  {result}  {episode.seconds:5.1f} s  "
        f"{count['plans']:4d} plans  {count['holds']} holds"
    )
    said = [episode.note] if episode.note else []
    said += [f"touched: {pair} at {when:.2f} s" for pair, when in episode.touched[:1]]
    return f"{text}  ({'; '.join(said)})" if said else text


def write_json(path: Path, summary: dict[str, Any]) -> None:
    """summary as JSON; numbers that could not be measured become null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        if isinstance(value, float):
            return round(value, 3) if math.isfinite(value) else None
        return value

    path.write_text(json.dumps(plain(summary), indent=2) + "\n")
