"""Inputs that grow from those that reached new lines of the package: libFuzzer's search, through atheris.

The search changes the bytes of a target's own samples, as far as the target lets it (`Target.searched`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from tools.fuzz.run import keep, made

if TYPE_CHECKING:
    from tools.fuzz.run import _Worker

SAMPLES = 200
MOST_BYTES = 65536


def instrumented() -> AbstractContextManager[None]:
    """What of the package is imported under it counts its branches."""
    import atheris

    return atheris.instrument_imports(include=["difftop_ros"])


def feed_guided(worker: _Worker) -> None:
    """Feed until the worker's last number; ends the process, as libFuzzer does."""
    import atheris

    corpus = worker.target.folder / "corpus"
    corpus.mkdir()
    for number in range(SAMPLES):
        (corpus / str(number)).write_bytes(made(worker.target, worker.name, worker.seed, number))
    last = worker.out / f"{worker.name}-last.bin"

    def one(raw: bytes) -> None:
        if worker.number >= worker.last:
            return
        keep(last, worker.name, raw)
        worker.feed(raw)
        if worker.number == worker.last:
            last.unlink()

    words = [
        "fuzz", str(corpus), f"-runs={2 * SAMPLES + worker.last - worker.number}", f"-seed={worker.seed + 1}",
        f"-max_len={MOST_BYTES}", "-timeout=600", "-rss_limit_mb=0", "-print_final_stats=0",
    ]  # fmt: skip
    atheris.Setup(words, one, custom_mutator=_behind_the_head if worker.target.searched == "body" else None)
    atheris.Fuzz()


def _behind_the_head(raw: bytes, most: int, seed: int) -> bytes:
    """A change that leaves the first line alone."""
    import atheris  # looked up in each call: atheris exchanges Mutate when the search begins

    head, line, body = raw.partition(b"\n")
    return head + line + atheris.Mutate(body, max(1, most - len(head) - 1))
