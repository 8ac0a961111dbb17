"""Observation and solve as one piece of work, in the node's process or in one of its own. No node, no topics here.

Open3D and other extensions keep Python's interpreter lock for tens of milliseconds while they work on a large cloud,
which would make the control thread late. In a process of its own the planner cannot do that (parameter
`planner_process`); the price is a copy of each message used.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from difftop_ros import signals
from difftop_ros.contract import Contract
from difftop_ros.errors import UserError
from difftop_ros.messages import ObservationError, ObservationPipeline, StaleObservation
from difftop_ros.plan_result import PlanResult, WarmStart
from difftop_ros.runtime.planner import PlannerLost
from difftop_ros.runtime.streams import Deserialize, RawMessage, Request
from difftop_ros.safety.guard import load_guard
from difftop_ros.space.sight import Sight
from difftop_ros.stages import measured, stage

START_S = 120.0
PREPARE_S = 600.0  # more for a solve that is compiled first
ANSWER_S = 30.0  # after which a planner that neither reads nor answers is given up
AGAIN = "see its last words above, then clean up and configure again"


@dataclass(frozen=True)
class PolicyFacts:
    """What the node must know of a policy: history length, steps of a plan, and the contract it was trained under."""

    obs_steps: int
    horizon: int
    contract: Contract


@dataclass(frozen=True)
class WorkerOptions:
    """model: folder; contract: YAML text in force ('' = the policy's copy); namespace: that of its relative topics;
    added_delay_ms: of each plan; the others as the parameters.

    decode makes a message of its serialized bytes and type name; it is a function of a module, so that it can be sent.
    """

    model: str
    decode: Deserialize
    contract: str = ""
    namespace: str = "/"
    device: str = "cpu"
    torch_threads: int = 1
    prepare_solve: str = "none"
    added_delay_ms: float = 0.0


class PolicyWorker:
    """A policy and the observation pipeline that feeds it. Used by one thread."""

    def __init__(
        self, policy: Any, contract: Contract, decode: Deserialize, prepare: str = "none", delay_s: float = 0.0
    ) -> None:
        """prepare: backend of solves that costs add; delay_s: added to each plan's time [s]."""
        self.policy, self.contract, self._prepare, self._delay_s = policy, contract, prepare, delay_s
        self._alone, self._equipment = policy, [("", b""), ("", b"")]
        self._sight: Sight | None = None
        # Windows of successive plans overlap, not always with the last one: a frame may be asked for again later.
        kept = 2 * int(getattr(policy, "obs_steps", 1)) + 2
        self._pipeline = ObservationPipeline(contract, lambda message: decode(message.raw, message.kind), kept)
        self._pipeline.where.require()
        self._followed = 0  # number of the newest message that was followed

    def observe(self, request: Request) -> tuple[dict[str, np.ndarray], float]:
        """Frames (obs_steps, ...) by key and the age [ms] of the newest observation's oldest stream.

        Raises ObservationError. Times before the streams began repeat the earliest observation, as training does.
        """
        frames, ages_ms = self._observe(request)
        return frames, max(ages_ms.values())

    def _observe(self, request: Request) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """As `observe`, with the age [ms] of each of the newest observation's streams."""
        self._pipeline.turns.last.update(request.turns)
        before = self._followed
        for topic, message in request.followed:
            if message.number > before:
                self._pipeline.follow(topic, message.stamp_ns, message)
                self._followed = max(self._followed, message.number)
        window: list[Any] = []
        for index, (time_ns, pick) in enumerate(zip(request.times_ns, request.picks, strict=True)):
            latest = {topic: (message.stamp_ns, message) for topic, message in pick.items()}
            newest = index == len(request.times_ns) - 1
            try:
                window.append(self._pipeline.observe(latest, time_ns, hold=not newest))
            except StaleObservation:
                if newest:
                    raise
        window = [window[0]] * (len(request.times_ns) - len(window)) + window
        frames = {key: np.stack([o.frames[key] for o in window]) for key in self._pipeline.spec}
        return frames, window[-1].ages

    def solve(self, request: Request, warm_start: WarmStart | None, deadline_ms: float | None) -> PlanResult:
        """One plan. Raises UserError naming what is wrong with the observation."""
        time_ns, warm = request.times_ns[-1], warm_start or WarmStart()
        with measured() as took:
            with stage("work"):
                with stage("observe"):
                    frames, ages_ms = self._observe(request)
                if observed := getattr(self.policy, "observed", None):
                    observed(time_ns / 1e9, ages_ms)
                seen = None if self._sight is None else self._sight.in_frames(frames, time_ns / 1e9, ages_ms)
                result = self.policy.act(
                    frames, warm_start=warm.actions, committed=warm.committed, deadline_ms=deadline_ms
                )
            time.sleep(self._delay_s)
        took |= {"encode": result.encode_ms, "solve": result.solve_ms}
        return replace(
            result, stamp_ns=time_ns, age_ms=max(ages_ms.values()), observe_ms=took["observe"], in_the_way=seen,
            stage_ms=took,
        )  # fmt: skip

    def equip(self, costs: str, surroundings: str) -> None:
        """Costs added to plans and what must not be touched, of these files as they are now ('' = none).

        Files that are as they were change nothing. Raises UserError, and then nothing has changed either.
        """
        from difftop_ros.costs.load import load_costs
        from difftop_ros.costs.policy import WithCosts

        equipment = [(path, Path(path).read_bytes() if Path(path).is_file() else b"") for path in (costs, surroundings)]
        if equipment == self._equipment:
            return
        policy = WithCosts(self._alone, load_costs(costs, self.contract), self.contract) if costs else self._alone
        sight = load_guard(surroundings, self.contract).sight() if surroundings else None
        if costs and self._prepare != "none":
            policy.prepare(self._prepare)
        self.policy, self._sight, self._equipment = policy, sight, equipment

    def weigh(self, weights: Sequence[str]) -> None:
        """New weights of the costs, as 'name=weight'. Raises UserError, and then nothing has changed."""
        weights = [word for word in weights if word]
        weigh = getattr(self.policy, "weigh", None)
        if weights and weigh is None:
            raise UserError(f"cost_weights is {list(weights)}, but no costs are added; set 'costs' first")
        if weights and weigh is not None:
            weigh(dict(_weight(word) for word in weights))

    @property
    def facts(self) -> PolicyFacts:
        """What the node must know of the policy."""
        return PolicyFacts(int(self.policy.obs_steps), int(self.policy.horizon), self.policy.contract)

    def reset(self) -> None:
        """Forget what belongs to the last run; called on activation."""
        if self._sight is not None:
            self._sight.reset()
        self._pipeline.forget()
        self._followed = 0
        self.policy.reset()

    def close(self) -> None:
        """Nothing to release in this process."""


def load_worker(options: WorkerOptions) -> PolicyWorker:
    """Load model and contract, check that they fit, warm up. Raises UserError with one sentence otherwise."""
    import torch

    from difftop_ros.contract import parse_contract
    from difftop_ros.policies import load_policy

    torch.set_num_threads(options.torch_threads)
    policy: Any = load_policy(options.model, device=options.device)
    contract = parse_contract(options.contract, "contract") if options.contract else policy.contract
    check_fit(contract, policy.contract, options.model)
    if options.prepare_solve != "none":
        policy.prepare(options.prepare_solve)
    policy.warm_up()
    namesake = contract.in_namespace(options.namespace)
    return PolicyWorker(policy, namesake, options.decode, options.prepare_solve, options.added_delay_ms / 1e3)


def _weight(word: str) -> tuple[str, float]:
    name, _, number = word.partition("=")
    try:
        return name.strip(), float(number)
    except ValueError:
        raise UserError(f"cost_weights has {word!r}; expected 'name=weight', the name of a cost and a number") from None


def check_fit(contract: Contract, trained: Contract, model: str) -> None:
    """Raises UserError naming every difference that forbids running the policy `model` under `contract`."""
    found = contract.incompatibilities(trained)
    if found:
        raise UserError(
            f"policy '{model}' does not fit contract '{contract.name}': {'; '.join(found)}; use the contract it was "
            "trained with or train it anew"
        )


class ProcessWorker:
    """The same as PolicyWorker, in a process of its own that ends with this one. Messages travel once."""

    def __init__(self, options: WorkerOptions) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._bytes, their_bytes = socket.socketpair()
        self._bytes.settimeout(ANSWER_S)
        arguments = (theirs, their_bytes, options)
        self._process = context.Process(target=_serve, args=arguments, name="difftop-planner", daemon=True)
        resource_tracker.ensure_running()  # started by the process's own start, it would let signals through again
        with signals.held_back():  # Ctrl-C while it is still importing would be a traceback
            self._process.start()
        theirs.close()
        their_bytes.close()
        self._lock = threading.Lock()
        self._sent: dict[int, RawMessage] = {}
        self.facts: PolicyFacts = self._answer(START_S + PREPARE_S * (options.prepare_solve != "none"))

    def observe(self, request: Request) -> tuple[dict[str, np.ndarray], float]:
        """As PolicyWorker.observe."""
        return self._call("observe", request)

    def solve(self, request: Request, warm_start: WarmStart | None, deadline_ms: float | None) -> PlanResult:
        """As PolicyWorker.solve."""
        begin = time.perf_counter()
        result: PlanResult = self._call("solve", request, warm_start, deadline_ms)
        pipe_ms = (time.perf_counter() - begin) * 1e3 - result.stage_ms["work"]
        return replace(result, stage_ms={**result.stage_ms, "pipe": pipe_ms})

    def reset(self) -> None:
        """As PolicyWorker.reset."""
        self._call("reset", None)

    def equip(self, costs: str, surroundings: str) -> None:
        """As PolicyWorker.equip."""
        self._call("equip", None, costs, surroundings, timeout_s=START_S + PREPARE_S)

    def weigh(self, weights: Sequence[str]) -> None:
        """As PolicyWorker.weigh."""
        self._call("weigh", None, list(weights))

    def close(self) -> None:
        """End the process, by force after 2 seconds."""
        self._pipe.close()
        self._bytes.close()
        self._process.join(2.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(2.0)

    def _call(self, name: str, request: Request | None, *rest: Any, timeout_s: float = ANSWER_S) -> Any:
        with self._lock:
            try:
                self._send(name, request, rest)
            except OSError as error:
                raise PlannerLost(f"the planner's process is gone ({error}); {AGAIN}") from None
            return self._answer(timeout_s)

    def _send(self, name: str, request: Request | None, rest: tuple[Any, ...]) -> None:
        """The call as (name, times, messages by number, turns, new messages' facts, rest); new messages' bytes apart.

        Through a socket of their own they are neither pickled nor copied, are read at once to where they stay, and the
        interpreter lock is free while they are written.
        """
        if request is None:
            self._pipe.send((name, None, None, None, None, rest))
            return
        used = {m.number: m for pick in request.picks for m in pick.values()}
        used |= {m.number: m for _, m in request.followed}
        fresh = [m for number, m in used.items() if number not in self._sent]
        picks = [{topic: m.number for topic, m in pick.items()} for pick in request.picks]
        told = [(topic, m.number) for topic, m in request.followed]
        facts = [(m.stamp_ns, m.kind, m.number, len(m.raw)) for m in fresh]
        self._pipe.send((name, request.times_ns, (picks, told), request.turns, facts, rest))
        for message in fresh:
            self._bytes.sendall(message.raw)
        self._sent = _still_of_use(self._sent | used, used, request.times_ns)

    def _answer(self, timeout_s: float) -> Any:
        try:
            if not self._pipe.poll(timeout_s):
                self._process.kill()
                raise PlannerLost(f"the planner's process did not answer within {timeout_s:g} s; {AGAIN}")
            kind, value = self._pipe.recv()
        except (EOFError, OSError):
            raise PlannerLost(f"the planner's process ended unexpectedly; {AGAIN}") from None
        if kind == "stale":
            raise StaleObservation(*value)
        if kind == "user":
            raise UserError(value)
        if kind == "observation":
            raise ObservationError(value)
        if kind == "bug":
            raise RuntimeError(value)
        return value


class _Server:
    """The other end of ProcessWorker's pipe: keeps the messages it has been sent and answers with its own worker."""

    def __init__(self, pipe: Connection, their_bytes: socket.socket, options: WorkerOptions) -> None:
        self._pipe, self._bytes, self._options = pipe, their_bytes, options
        self._known: dict[int, RawMessage] = {}
        self._worker: PolicyWorker | None = None

    def run(self) -> None:
        """Load the policy, then answer until the pipe closes."""
        self._pipe.send(_guarded(self._load))
        while self._worker is not None:
            try:
                name, times, chosen, turns, fresh, rest = self._pipe.recv()
                for stamp_ns, kind, number, size in fresh or ():
                    self._known[number] = RawMessage(stamp_ns, self._read(size), kind, number)
            except (EOFError, OSError):
                return
            self._pipe.send(_guarded(self._call, self._worker, name, times, chosen, turns, rest))

    def _read(self, size: int) -> memoryview:
        """The bytes of one message. Raises EOFError when the other end is gone."""
        found = np.empty(size, np.uint8).data
        done = 0
        while done < size:
            count = self._bytes.recv_into(found[done:], size - done, socket.MSG_WAITALL)
            if not count:
                raise EOFError
            done += count
        return found

    def _load(self) -> PolicyFacts:
        self._worker = load_worker(self._options)
        return self._worker.facts

    def _call(self, worker: PolicyWorker, name: str, times: Any, chosen: Any, turns: Any, rest: tuple[Any, ...]) -> Any:
        if times is None:
            return getattr(worker, name)(*rest)
        picks, told = chosen
        used = {number for pick in picks for number in pick.values()} | {number for _, number in told}
        self._known = _still_of_use(self._known, used, times)
        known = tuple({t: self._known[n] for t, n in pick.items()} for pick in picks)
        request = Request(times, known, turns, tuple((topic, self._known[number]) for topic, number in told))
        return getattr(worker, name)(request, *rest)


def _still_of_use(
    known: dict[int, RawMessage], used: Collection[int], times_ns: tuple[int, ...]
) -> dict[int, RawMessage]:
    """Of the messages sent so far those that the window of `times_ns` [ns] uses, or that a later one may use.

    Both ends of the pipe keep the same ones, so that no message travels twice.
    """
    first, last = times_ns[0], times_ns[-1]
    return {n: message for n, message in known.items() if n in used or first <= message.stamp_ns <= last}


def _serve(pipe: Connection, their_bytes: socket.socket, options: WorkerOptions) -> None:
    """Main function of the planner's process."""
    signals.ignore(signal.SIGTERM)  # the others reach the whole group; the node decides when to end
    if hasattr(os, "sched_setscheduler"):  # the node's real-time priority is inherited; a solve must not have it
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    _Server(pipe, their_bytes, options).run()


def _guarded(function: Callable[..., Any], *arguments: Any) -> tuple[str, Any]:
    """The result or the error as (kind, value), fit for a pipe."""
    try:
        return "ok", function(*arguments)
    except StaleObservation as error:
        return "stale", (str(error), error.topic)
    except ObservationError as error:
        return "observation", str(error)
    except UserError as error:
        return "user", str(error)
    except Exception as error:
        return "bug", f"{type(error).__name__}: {error}"
