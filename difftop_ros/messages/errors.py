"""Errors of reading messages, each one sentence a user can act on. Nothing else lives here."""

from __future__ import annotations

from difftop_ros.errors import UserError


class ObservationError(UserError):
    """A message cannot be made into the frame the contract asks for (encoding, joints, frame id, empty cloud, …).

    `.key` is the observation it was meant for, '' when it is none.
    """

    key: str = ""


class StaleObservation(ObservationError):
    """A stream has delivered nothing yet, or nothing younger than its `max_age_ms`. `.topic` names it."""

    def __init__(self, message: str, topic: str) -> None:
        super().__init__(message)
        self.topic = topic
