"""The shipped policies still make, of stored observations, the plans they made when they were stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftop_ros.policies import load_policy

ROOT = Path(__file__).resolve().parents[2]
STORED = sorted(Path(__file__).with_name("stored").glob("*.npz"))


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_a_shipped_policy_plans_as_it_did(path: Any) -> None:
    policy = load_policy(ROOT / "models" / path.stem)
    with np.load(path) as data:
        stored = dict(data)
    steps = sorted({int(name.split("/")[0]) for name in stored})
    assert len(steps) >= 5
    for step in steps:
        frames = {key: stored[f"{step}/obs/{key}"] for key in policy.contract.observations}
        plan = policy.act(frames, warm_start=stored.get(f"{step}/warm_start")).actions
        base = policy.act(frames, iterations=0).actions
        np.testing.assert_allclose(plan, stored[f"{step}/plan"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(base, stored[f"{step}/base"], rtol=0, atol=1e-6)


def test_every_shipped_policy_is_stored() -> None:
    shipped = sorted(path.parent.name for path in (ROOT / "models").glob("*/model.safetensors"))
    assert [path.stem for path in STORED] == shipped
