"""The adjoints, one file each: how the solution's gradient with respect to the problem is made."""

from difftop_ros.trajopt.adjoints.implicit import attach_implicit
from difftop_ros.trajopt.adjoints.unrolled import solve_unrolled

__all__ = ["attach_implicit", "solve_unrolled"]
