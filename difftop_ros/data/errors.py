"""Errors of the data part, each one sentence a user can act on. Nothing else lives here."""

from __future__ import annotations

from difftop_ros.errors import UserError


class BagError(UserError):
    """A bag cannot be read, or lacks what the contract needs."""


class DatasetError(UserError):
    """A dataset folder is missing, incomplete or was made for another contract."""
