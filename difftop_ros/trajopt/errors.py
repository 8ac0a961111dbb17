"""The one error of this room."""

from __future__ import annotations

from difftop_ros.errors import UserError


class TrajoptError(UserError):
    """A problem or an option that cannot be solved as given: shapes, dtypes, bounds, names."""
