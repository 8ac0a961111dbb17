"""The simulation bridge: a simulated robot behind the topics of a robot contract.

Run it by `python -m difftop_ros.nodes.simulation.bridge.node --ros-args -p task:=lift`, or by `difftop sim`.
Lives here: putting the parts together, the command subscription and the services. The parts are in parameters.py
(what can be set), streams.py (which topics), commands.py (what commands mean), loop.py (time and physics), cameras.py
(drawing) and publishers.py (messages).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from difftop_ros.contract import Contract, load_contract
from difftop_ros.errors import UserError
from difftop_ros.messages.types import ros_types, stamp
from difftop_ros.nodes.parameters import declare
from difftop_ros.nodes.process import named, run_node
from difftop_ros.nodes.simulation.bridge.commands import CommandTracker
from difftop_ros.nodes.simulation.bridge.expert import ExpertDriver
from difftop_ros.nodes.simulation.bridge.loop import LoopSettings, SimLoop
from difftop_ros.nodes.simulation.bridge.parameters import PARAMETERS, parse_joint_map
from difftop_ros.nodes.simulation.bridge.publishers import BridgePublishers, Formats
from difftop_ros.nodes.simulation.bridge.streams import plan_streams
from difftop_ros.paths import share_path
from difftop_ros.sim import make_world
from difftop_ros.sim.interface import SimWorld, require_mode
from difftop_ros.sim.placed import Placed, parse_placed

NODE_NAME = "sim_bridge"
_EXTRA_KINDS = {
    "color": "publish_color",
    "compressed": "publish_compressed",
    "depth": "publish_depth",
    "points": "publish_points",
}


class SimBridge:
    """One simulated robot on an rclpy node: `start()`, spin the node, `stop()`.

    Raises UserError for a contract, model, task or parameter that cannot be used.
    """

    def __init__(self, node: Any) -> None:
        self.node = node
        values = declare(node, PARAMETERS)
        self.contract = _contract(values, node.get_namespace())
        world_options = _world_options(self.contract, values)
        task = values["task"] or self.contract.sim.task or "none"
        self._obstacles = parse_placed(values["obstacles"], "parameter 'obstacles'")
        self._rebuild = False

        def make(other_task: str | None) -> SimWorld:
            return _make_world(other_task or task, world_options, self._obstacles)

        # A world to learn the robot's joints and cameras from; the loop's first one.
        world = make(None)
        self._settings = _loop_settings(self.contract, values, world.step_s)
        renamed = parse_joint_map(values["joint_map"])
        columns, names = _match_joints(self.contract, world.joint_names, renamed)
        self.tracker = CommandTracker(
            self.contract,
            columns,
            values["command_timeout"],
            direct=world.takes == "velocity" and require_mode(world, self.contract.command.mode),
        )
        self._seed, self._own_services = values["seed"], values["own_services"]
        publishers = self._make_publishers(world, names, values)
        publishers.tracker = self.tracker
        first: list[SimWorld] = [world]
        self.loop = SimLoop(
            lambda other: first.pop() if first else make(other),
            self.tracker,
            publishers,
            self._settings,
            values["realtime_factor"],
        )
        if values["expert"]:
            self.loop.driver = ExpertDriver(node, self.contract, columns, world)
        self._subscribe()
        node.add_on_set_parameters_callback(self._on_parameters)

    def start(self) -> None:
        """Begins the first episode; time runs unless the bridge is in lock-step."""
        if any(o.modality != "vector" for o in self.contract.observations.values()):
            # The first picture takes a second; taken now, it does not stall the running clock later.
            self.loop.prepare_cameras()
        self.loop.start(self._seed)
        pace = "lock-step" if self._settings.lockstep else f"{self.loop.realtime_factor:g} x real time"
        self.node.get_logger().info(
            f"ready: task '{self.loop.world.task.name}', contract '{self.contract.name}', {pace}, commands on "
            f"{self.contract.command.topic} ({self.contract.command.type}, {self.contract.command.mode})"
        )

    def stop(self) -> None:
        """Ends the simulation's threads and frees the renderer."""
        self.loop.stop()

    def _make_publishers(self, world: SimWorld, names: list[str], values: dict[str, Any]) -> BridgePublishers:
        kinds: Any = [k for k, switch in _EXTRA_KINDS.items() if values["extra_streams"] and values[switch]]
        fields = tuple(f.strip() for f in values["cloud_fields"].split(","))
        if sorted(fields) not in (["x", "y", "z"], ["rgb", "x", "y", "z"]):
            raise UserError(
                f"parameter 'cloud_fields' is '{values['cloud_fields']}'; order x, y, z and, if wanted, rgb"
            )
        formats = Formats(
            values["color_encoding"],
            values["depth_encoding"],
            values["compressed_format"],
            values["jpeg_quality"],
            fields,
            values["cloud_padding"],
            values["cloud_big_endian"],
        )
        rate = values["camera_rate"] or self.contract.rate_hz
        rates = {}
        for camera in world.cameras:
            own = self.node.declare_parameter(f"camera_rates.{camera}", 0.0).value
            rates[camera] = own or rate
        streams = plan_streams(self.contract, world.cameras, kinds, self.node.get_namespace())
        return BridgePublishers(
            self.node,
            self.contract,
            world,
            streams,
            formats,
            names,
            rates,
            self._settings.tick_ns,
            values["reliable_sensors"],
        )

    def _subscribe(self) -> None:
        from rclpy.callback_groups import MutuallyExclusiveCallbackGroup

        # Services wait for the loop, so they get threads of their own beside the commands'.
        commands, services = MutuallyExclusiveCallbackGroup(), MutuallyExclusiveCallbackGroup()
        kind = ros_types(self.contract.command.type)
        topic = self.contract.command.topic
        self.node.create_subscription(kind, topic, self._on_command, 10, callback_group=commands)
        if self._own_services:
            from difftop_ros.srv import ResetEpisode, StepSimulation

            self.node.create_service(ResetEpisode, "sim/reset", self._on_reset, callback_group=services)
            self.node.create_service(StepSimulation, "sim/step", self._on_step, callback_group=services)
        try:
            from difftop_ros.nodes.simulation.bridge.standard import StandardServices
        except ImportError as error:
            self.node.get_logger().info(f"{error.name} is not installed: its services are not served")
        else:
            StandardServices(self.node, self.loop, services)

    def _on_command(self, message: Any) -> None:
        reason = self.tracker.offer(message)
        if reason is not None:
            self.node.get_logger().warning(f"command ignored: {reason}", throttle_duration_sec=1.0)

    def _on_reset(self, request: Any, response: Any) -> Any:
        return self._answer(
            response,
            lambda: self._reset(request.seed, request.task),
            lambda: f"episode of seed {request.seed} of task '{self.loop.world.task.name}' began",
        )

    def _reset(self, seed: int, task: str) -> int:
        time_ns = self.loop.reset(seed, task, rebuild=self._rebuild)
        self._rebuild = False
        return time_ns

    def _on_step(self, request: Any, response: Any) -> Any:
        return self._answer(
            response,
            lambda: self.loop.advance(request.steps, request.wait_for_command),
            lambda: f"advanced {request.steps} policy steps",
        )

    def _answer(self, response: Any, work: Any, told: Any) -> Any:
        try:
            time_ns = self.loop.call(work)
            response.success, response.message = True, told()
        except UserError as error:
            time_ns = self.loop.time_ns
            response.success, response.message = False, str(error)
        response.stamp = stamp(ros_types, time_ns * 1e-9)
        return response

    def _on_parameters(self, parameters: list[Any]) -> Any:
        from rcl_interfaces.msg import SetParametersResult

        for parameter in parameters:
            if parameter.name == "realtime_factor":
                self.loop.realtime_factor = float(parameter.value)
            elif parameter.name == "obstacles":
                try:
                    self._obstacles, self._rebuild = parse_placed(parameter.value, "parameter 'obstacles'"), True
                except UserError as error:
                    return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def _contract(values: dict[str, Any], namespace: str) -> Contract:
    contract = load_contract(values["contract"] or share_path("config/panda_table.yaml")).in_namespace(namespace)
    changes = {"type": values["command_type"], "mode": values["command_mode"]}
    changes = {key: value for key, value in changes.items() if value}
    return contract.model_copy(update={"command": contract.command.model_copy(update=changes)})


def _world_options(contract: Contract, values: dict[str, Any]) -> dict[str, Any]:
    model = values["model"] or contract.sim.model
    if model and not Path(model).expanduser().is_absolute() and values["contract"] and not Path(model).is_file():
        # A contract may name a model that lies beside it.
        model = str(Path(values["contract"]).parent / model)
    return {
        "model_path": model or None,
        "width": values["width"] or contract.sim.width,
        "height": values["height"] or contract.sim.height,
        "disturbance": values["disturbance"],
        "varied_starts": values["varied_starts"],
    }


def _make_world(task: str, options: dict[str, Any], obstacles: Sequence[Placed]) -> SimWorld:
    if not obstacles:
        return make_world(task, **options)
    if "/" in task:
        raise UserError(f"obstacles stand in the demo arm's world alone; leave them out for task '{task}'")
    world: Any = make_world(task, obstacles=[placed.shape for placed in obstacles], **options)
    for index, placed in enumerate(obstacles):
        if placed.course is not None:
            world.obstacles.follow(index, placed.course)
    return cast(SimWorld, world)


def _loop_settings(contract: Contract, values: dict[str, Any], step_s: float | None) -> LoopSettings:
    """step_s: the world's only step [s], if it has one: then its rate is the ticks' unless another is asked for."""
    rate_hz = values["joint_state_rate"] or (1 / step_s if step_s else 100.0)
    ticks_per_step = rate_hz / contract.rate_hz
    step_ticks = max(1, round(ticks_per_step))
    if values["lockstep"] and abs(ticks_per_step - step_ticks) > 1e-6:
        raise UserError(
            f"in lock-step joint_state_rate {rate_hz:g} must be a whole multiple of the contract's "
            f"rate_hz {contract.rate_hz:g}; set joint_state_rate to {step_ticks * contract.rate_hz:g}"
        )
    tick_ns = round(1e9 / rate_hz)
    return LoopSettings(tick_ns, step_ticks, contract.episode.max_seconds, values["lockstep"])


def _match_joints(
    contract: Contract, world_names: tuple[str, ...], renamed: dict[str, str]
) -> tuple[list[int], list[str]]:
    """For each contract joint its place in the world, and the world's joints as messages are to name them."""
    unknown = [m for m in renamed.values() if m not in world_names]
    lacking = [n for n in contract.command.joint_names if renamed.get(n, n) not in world_names]
    if unknown or lacking:
        raise UserError(
            f"the model has no joints {unknown or lacking}; it has {list(world_names)}: correct the contract, or name "
            "the pairs in the parameter joint_map ['contract name=model name', …]"
        )
    columns = [world_names.index(renamed.get(n, n)) for n in contract.command.joint_names]
    shown = {model: name for name, model in renamed.items()}
    return columns, [shown.get(n, n) for n in world_names]


class BridgeProgram:
    """The process of a SimBridge: runs until a signal, or until the simulation's own thread has failed."""

    def __init__(self, node: Any) -> None:
        self._bridge = SimBridge(node)
        try:
            self._bridge.start()
        except BaseException:
            self._bridge.stop()
            raise

    def turn(self, signals: int) -> bool:
        """See Program. Raises what the simulation's thread failed with."""
        loop = self._bridge.loop
        if loop.failure is not None:
            raise loop.failure
        return loop.alive and not signals

    def end(self) -> int:
        """See Program."""
        self._bridge.stop()
        return 0


def main(arguments: list[str] | None = None) -> int:
    """Runs the bridge until Ctrl-C or SIGTERM. Exit code 2, with one sentence, for what the user can put right."""
    return run_node(named(NODE_NAME), BridgeProgram, arguments, threads=3)


if __name__ == "__main__":
    sys.exit(main())
