"""The simulation's error for users. Nothing else lives here."""

from difftop_ros.errors import UserError


class SimError(UserError):
    """A model, task or setting the simulation cannot use; the sentence names what to change."""
