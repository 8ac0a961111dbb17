"""A kind of observation that does not tell its frames' shape is refused when it is registered."""

from __future__ import annotations

from typing import Literal

import pytest

from difftop_ros.contract.base import Observation
from difftop_ros.contract.observations import KINDS, register_kind
from difftop_ros.errors import UserError


class Shapeless(Observation):
    kind: Literal["shapeless"]


def test_a_kind_without_a_shape_is_refused() -> None:
    with pytest.raises(UserError, match="Shapeless does not say the shape of its frames; give it a property 'shape'"):
        register_kind("shapeless", Shapeless)  # type: ignore[type-abstract]
    assert "shapeless" not in KINDS
