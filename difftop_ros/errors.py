"""Errors a user can act on. Bugs are ordinary Python exceptions and do not live here."""

import errno
import importlib.util

# packages that not every machine needs -> the extra of setup.py that brings them
EXTRAS = {
    "mujoco": "sim", "gymnasium": "sim", "imageio": "sim", "lightning": "train", "tensorboard": "train",
    "matplotlib": "train", "rclpy": "ros", "diffusers": "diffusion", "pydrake": "drake", "pxr": "isaac",
    "dm_control": "dmcontrol", "stable_baselines3": "rivals", "foxglove": "view",
}  # fmt: skip
# What a disk says that takes no more: full, over a quota, read-only, a file too large.
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
# Of a path that cannot be used: no right to it, a file where a folder is meant, a name too long, a broken disk.
PATH = (
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EIO,
)


class UserError(Exception):
    """Something the user can put right: one sentence naming the key, what was got, what was expected and what to do.

    The command line prints the sentence without a traceback and exits with code 2; nodes refuse the transition.
    key: the setting it is about, for whoever knows the line of it.
    """

    def __init__(self, sentence: str = "", key: str = "") -> None:
        super().__init__(sentence)
        self.key = key


def missing_package(error: ModuleNotFoundError) -> UserError:
    """The error to show in place of `error`, saying how to install it. Raises `error` itself for other packages."""
    name = (error.name or "").split(".")[0]
    if name not in EXTRAS:
        raise error
    return UserError(
        f"this needs the package '{name}', which is not installed; run 'make setup' in the source folder, or pip "
        f"install 'difftop_ros[{EXTRAS[name]}]' with its constraints.txt"
    )


def require_package(name: str, what: str) -> None:
    """Raise UserError saying that `what` needs the package `name`, if it is not there; for checks before long work."""
    if importlib.util.find_spec(name) is None:
        raise UserError(f"{what}: {missing_package(ModuleNotFoundError(name=name))}")


def of_the_disk(error: OSError) -> str:
    """The sentence for what a person can put right about files and disks, '' for other errors."""
    if error.errno not in (*DISK, *PATH):
        return ""
    full = error.errno in DISK
    where = f" at '{error.filename}'" if error.filename else ""
    remedy = "make room or give a writable folder" if full else "give a path that can be used"
    return (
        f"cannot {'write' if full else 'read or write'}{where}: {error.strerror}; what was complete before is kept: "
        f"{remedy}, and the same command goes on"
    )
