"""Reads a costs file: which costs are added to a policy's plan when it runs, and how strongly the plan holds on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from inspect import isabstract
from pathlib import Path
from typing import Any

from pydantic import Field

from difftop_ros.contract import Contract
from difftop_ros.contract.base import Section
from difftop_ros.contract.run_limits import RunLimits
from difftop_ros.contract.validated import validated
from difftop_ros.costs.kinds import OURS, CostOptions, Making
from difftop_ros.costs.term import CostTerm
from difftop_ros.errors import UserError
from difftop_ros.plain_yaml import read_yaml

GROUP = "difftop_ros.costs"


class CostsError(UserError):
    """A costs file cannot be read or breaks a rule; the message has one line per finding."""


class SolveOptions(Section):
    """How the second solve goes, which adds the costs to the policy's own plan."""

    tether: float = Field(0.3, gt=0, le=1e3, description="how strongly the plan stays near the policy's own")
    posture: float = Field(
        10.0, ge=0, le=1e3, description="how much more that turns the tool, or moves the arm round it, is held"
    )
    stiffness: float = Field(3.0, ge=0, le=1e3, description="how strongly the way round is kept smooth")
    iterations: int = Field(6, ge=1, le=1000, description="of the solve")
    detour_m: float = Field(
        0.1, ge=0, le=1, description="how far aside the further starts lie; 0: no further starts [m]"
    )


@dataclass(frozen=True)
class Costs:
    """A costs file, made for a contract: the terms by the names they have in the file, in its order."""

    options: SolveOptions
    terms: dict[str, CostTerm]
    settings: dict[str, CostOptions]
    limits: RunLimits = field(default_factory=RunLimits)


def load_costs(path: str | Path, contract: Contract) -> Costs:
    """Read the costs file at `path` for `contract`. Raises CostsError with one line per finding."""
    return make_costs(read_yaml(path, "costs file", CostsError).data, contract, str(path))


def make_costs(data: Any, contract: Contract, source: str = "costs") -> Costs:
    """Costs of what a costs file holds: options of the solve, `terms`: name -> {kind: …, its figures}, and `limits`."""
    given = data.get("terms", {}) if isinstance(data, Mapping) else None
    if not isinstance(given, Mapping) or not (given or data.get("limits")):
        raise CostsError(
            f"{source}: expected 'terms:' with 'name: {{kind: …}}' below it, or 'limits:', got {data!r:.80}"
        )
    own_keys = {key: value for key, value in data.items() if key not in ("terms", "limits")}
    options = validated(SolveOptions, own_keys, source, CostsError)
    limits = validated(RunLimits, data.get("limits", {}), f"{source}: limits", CostsError)
    making, kinds = Making(contract), _kinds()
    terms: dict[str, CostTerm] = {}
    settings: dict[str, CostOptions] = {}
    for name, figures in given.items():
        where = f"{source}: terms.{name}"
        kind = figures.get("kind") if isinstance(figures, Mapping) else figures
        if not isinstance(kind, str) or kind not in kinds:
            raise CostsError(f"{where}.kind is {kind!r}; expected one of {sorted(kinds)}")
        own = validated(kinds[kind], {k: v for k, v in figures.items() if k != "kind"}, where, CostsError)
        try:
            term = own.make(making)
        except UserError as error:
            raise CostsError(f"{where}: {error}") from None
        except Exception as error:  # another package's, or a ValueError of figures that do not go together
            raise CostsError(f"{where} cannot be made: {type(error).__name__}: {error}") from error
        if not isinstance(term, CostTerm):
            raise CostsError(f"{where}: its 'make' gave {term!r:.60}; expected a cost with 'data' and a call")
        terms[str(name)] = term
        settings[str(name)] = own
    return Costs(options, terms, settings, limits)


def _kinds() -> dict[str, type[CostOptions]]:
    """Our kinds, and those of installed packages."""
    found = dict(OURS)
    for point in entry_points(group=GROUP):
        try:
            kind = point.load()
        except Exception as error:
            raise CostsError(
                f"the cost '{point.name}' of another package cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        if not (isinstance(kind, type) and issubclass(kind, CostOptions)):
            raise CostsError(f"the cost '{point.name}' of another package is {kind!r}; expected a CostOptions class")
        if isabstract(kind):
            raise CostsError(f"the cost '{point.name}' of another package makes no cost; give it a method 'make'")
        found[point.name] = kind
    return found
