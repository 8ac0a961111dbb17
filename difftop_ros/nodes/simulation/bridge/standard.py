"""The bridge's services of simulation_interfaces 2.1, by which any client can reset, pause, step and look.

Names are ~/reset_simulation and so on, as other simulators have them below their own name. A step is a tick of physics.
Clocks of ours never go back: a reset begins the next seed's episode and leaves time as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulation_interfaces.msg import EntityFilters, EntityState, Result, SimulationState, SimulatorFeatures
from simulation_interfaces.srv import (
    GetEntities,
    GetEntityState,
    GetSimulationState,
    GetSimulatorFeatures,
    ResetSimulation,
    SetEntityState,
    SetSimulationState,
    StepSimulation,
)

from difftop_ros.errors import UserError
from difftop_ros.messages.types import ros_types, stamp
from difftop_ros.nodes.simulation.bridge.loop import SimLoop
from difftop_ros.nodes.simulation.poses import pose_array, pose_message
from difftop_ros.sim.interface import HasBodies

FRAME = "world"
_FEATURES = (
    SimulatorFeatures.SIMULATION_RESET, SimulatorFeatures.SIMULATION_RESET_STATE,
    SimulatorFeatures.SIMULATION_STATE_GETTING, SimulatorFeatures.SIMULATION_STATE_SETTING,
    SimulatorFeatures.SIMULATION_STATE_PAUSE, SimulatorFeatures.STEP_SIMULATION_SINGLE,
    SimulatorFeatures.STEP_SIMULATION_MULTIPLE,
)  # fmt: skip
_OF_BODIES = (SimulatorFeatures.ENTITY_STATE_GETTING, SimulatorFeatures.ENTITY_STATE_SETTING)


class StandardServices:
    """Answers in the loop's thread, between two ticks."""

    def __init__(self, node: Any, loop: SimLoop, group: Any) -> None:
        self._loop, self._stopped = loop, False
        for kind, name, answer in (
            (GetSimulatorFeatures, "get_simulator_features", self._features),
            (GetSimulationState, "get_simulation_state", self._state),
            (SetSimulationState, "set_simulation_state", self._set_state),
            (ResetSimulation, "reset_simulation", self._reset),
            (StepSimulation, "step_simulation", self._step),
            (GetEntities, "get_entities", self._entities),
            (GetEntityState, "get_entity_state", self._entity),
            (SetEntityState, "set_entity_state", self._place),
        ):
            node.create_service(kind, f"~/{name}", answer, callback_group=group)

    def _do(self, response: Any, work: Callable[[], None]) -> Any:
        """`work` in the loop's thread; what it cannot do becomes the response's result."""
        try:
            self._loop.call(work)
            response.result.result = Result.RESULT_OK
        except _Refused as refusal:
            response.result.result, response.result.error_message = refusal.code, str(refusal)
        except UserError as error:
            response.result.result, response.result.error_message = Result.RESULT_OPERATION_FAILED, str(error)
        return response

    def _features(self, request: Any, response: Any) -> Any:
        bodies = _OF_BODIES if isinstance(self._loop.world, HasBodies) else ()
        response.features.features = [*_FEATURES, *bodies]
        response.features.custom_info = "difftop_ros: a reset begins the next seed's episode; time never goes back"
        return response

    # ---------------------------------------------------------------- time

    def _state(self, request: Any, response: Any) -> Any:
        def work() -> None:
            response.state.state = self._now()

        return self._do(response, work)

    def _now(self) -> int:
        if not self._loop.paused:
            return SimulationState.STATE_PLAYING
        return SimulationState.STATE_STOPPED if self._stopped else SimulationState.STATE_PAUSED

    def _set_state(self, request: Any, response: Any) -> Any:
        wanted = request.state.state

        def work() -> None:
            if wanted not in (
                SimulationState.STATE_PLAYING, SimulationState.STATE_PAUSED, SimulationState.STATE_STOPPED
            ):  # fmt: skip
                raise _Refused(Result.RESULT_FEATURE_UNSUPPORTED, f"state {wanted} cannot be set; stop, play or pause")
            if wanted == self._now():
                raise _Refused(SetSimulationState.Response.ALREADY_IN_TARGET_STATE, "it is in that state already")
            try:
                self._loop.pause(wanted != SimulationState.STATE_PLAYING)
            except UserError as error:
                raise _Refused(SetSimulationState.Response.STATE_TRANSITION_ERROR, str(error)) from None
            self._stopped = wanted == SimulationState.STATE_STOPPED
            if self._stopped:
                self._loop.reset(self._loop.seed + 1)

        return self._do(response, work)

    def _reset(self, request: Any, response: Any) -> Any:
        scope, everything = request.scope, (ResetSimulation.Request.SCOPE_DEFAULT, ResetSimulation.Request.SCOPE_ALL)

        def work() -> None:
            if scope not in everything and scope & ResetSimulation.Request.SCOPE_TIME:
                raise _Refused(Result.RESULT_FEATURE_UNSUPPORTED, "time cannot be reset; ask for SCOPE_STATE")
            if scope in everything or scope & ResetSimulation.Request.SCOPE_STATE:
                self._loop.reset(self._loop.seed + 1)

        return self._do(response, work)

    def _step(self, request: Any, response: Any) -> Any:
        def work() -> None:
            self._loop.tick(request.steps)
            self._stopped = False

        return self._do(response, work)

    # ---------------------------------------------------------------- bodies

    def _bodies(self) -> HasBodies:
        if not isinstance(self._loop.world, HasBodies):
            raise _Refused(Result.RESULT_FEATURE_UNSUPPORTED, "this world tells of no bodies")
        return self._loop.world

    def _entities(self, request: Any, response: Any) -> Any:
        def work() -> None:
            if request.filters != EntityFilters():
                raise _Refused(Result.RESULT_FEATURE_UNSUPPORTED, "filters are not supported; leave them empty")
            response.entities = sorted(self._bodies().bodies())

        return self._do(response, work)

    def _entity(self, request: Any, response: Any) -> Any:
        def work() -> None:
            found = self._bodies().bodies()
            if request.entity not in found:
                raise _Refused(Result.RESULT_NOT_FOUND, f"there is no '{request.entity}'; there are {sorted(found)}")
            response.state = EntityState(pose=pose_message(found[request.entity]))
            response.state.header.stamp = stamp(ros_types, self._loop.time_ns * 1e-9)
            response.state.header.frame_id = FRAME

        return self._do(response, work)

    def _place(self, request: Any, response: Any) -> Any:
        def work() -> None:
            if request.set_twist or request.set_acceleration:
                raise _Refused(Result.RESULT_FEATURE_UNSUPPORTED, "bodies are put somewhere at rest: set_pose alone")
            known = self._bodies().bodies()
            if request.entity not in known:
                raise _Refused(Result.RESULT_NOT_FOUND, f"there is no '{request.entity}'; there are {sorted(known)}")
            if request.set_pose:
                try:
                    self._bodies().place(request.entity, pose_array(request.state.pose))
                except UserError as error:
                    raise _Refused(SetEntityState.Response.INVALID_POSE, str(error)) from None

        return self._do(response, work)


class _Refused(UserError):
    """Why a request is not served, with the code that says so."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
