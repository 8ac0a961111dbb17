"""The checks of the command gate: ours by name, and those of other packages by entry point "difftop_ros.checks"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points

from difftop_ros.errors import UserError
from difftop_ros.safety.checks.age import Measurement, PlanAge
from difftop_ros.safety.checks.base import Check, GateSettings, LastCommand, Proposal
from difftop_ros.safety.checks.clearance import Clearance
from difftop_ros.safety.checks.content import Finite, JointNames
from difftop_ros.safety.checks.motion import Acceleration, Jerk, Position, Tracking, Velocity

__all__ = ["DEFAULT_CHECKS", "Check", "GateSettings", "LastCommand", "Proposal", "left_out", "make_checks"]

GROUP = "difftop_ros.checks"
OURS: dict[str, Callable[[GateSettings], Check]] = {
    check.kind: check
    for check in (Finite, JointNames, PlanAge, Measurement, Position, Velocity, Acceleration, Jerk, Tracking, Clearance)
}
DEFAULT_CHECKS = tuple(OURS)
FIRST = (Finite.kind, JointNames.kind)  # all others compute with the numbers and rely on these two


def make_checks(settings: GateSettings, names: Sequence[str] = DEFAULT_CHECKS) -> list[Check]:
    """The checks called `names`, in this order: ours, or those that installed packages offer.

    Raises UserError for a name that nobody offers or that comes twice, and for a list that does not begin with ours
    for the numbers themselves.
    """
    if tuple(names[: len(FIRST)]) != FIRST:
        raise UserError(
            f"checks begins with {list(names[: len(FIRST)])}; expected {list(FIRST)}: the other checks rely on them"
        )
    twice = [name for name in dict.fromkeys(names) if list(names).count(name) > 1]
    if twice:
        raise UserError(f"checks names {twice} more than once; name each check once")
    offered = {point.name: point for point in entry_points(group=GROUP)}
    checks = []
    for name in names:
        if name in OURS:
            checks.append(OURS[name](settings))
        elif name in offered:
            checks.append(_load(name, offered[name].load, settings))
        else:
            known = [*OURS, *(other for other in offered if other not in OURS)]
            raise UserError(
                f"checks names '{name}', which no installed package offers; there are {known}: install the package "
                f"whose entry point group '{GROUP}' has it, or correct the name"
            )
    return checks


def _load(name: str, load: Callable[[], Callable[[GateSettings], Check]], settings: GateSettings) -> Check:
    """The check behind an entry point; whatever goes wrong in foreign code becomes a sentence that says whose it is."""
    try:
        check = load()(settings)
    except Exception as error:
        raise UserError(
            f"the check '{name}' of another package cannot be made: {type(error).__name__}: {error}; mend it there or "
            "leave it out of checks"
        ) from error
    if not isinstance(getattr(check, "kind", None), str) or not callable(getattr(check, "fault", None)):
        raise UserError(f"the check '{name}' has no 'kind' or no 'fault'; see difftop_ros.safety.checks.base.Check")
    return check


def left_out(names: Sequence[str]) -> list[str]:
    """Which of our own checks `names` does without, so that a warning can say so."""
    return [name for name in DEFAULT_CHECKS if name not in names]
