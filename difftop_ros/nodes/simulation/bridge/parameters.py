"""The simulation bridge's ROS parameters: names, defaults, bounds, units. What they do: see its other files."""

from __future__ import annotations

from difftop_ros.errors import UserError
from difftop_ros.nodes.parameters import Parameter

COMMAND_TYPES = ("sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory", "std_msgs/msg/Float64MultiArray")
COMMAND_MODES = ("position", "velocity", "delta_position")


HEAD = (
    "Parameters of the simulation bridge, each with its type, bounds, unit and meaning. All are read at the start; "
    "only 'live' ones may change while it runs."
)

PARAMETERS = (
    Parameter("contract", "", "path of the robot contract; '' is the demo's config/panda_table.yaml"),
    Parameter("task", "", "'reach', 'push', 'lift', 'none' or 'metaworld/…-v3'; '' takes the contract's sim.task, else "
        "'none'"),
    Parameter("model", "", "path of an MJCF to use instead of the demo's; '' takes the contract's sim.model"),
    Parameter("seed", 0, "seed of the first episode", bounds=(0, 2147483647)),
    Parameter("width", 0, "picture width; 0 takes the contract's sim.width", bounds=(0, 1920), unit="px"),
    Parameter("height", 0, "picture height; 0 takes the contract's sim.height", bounds=(0, 1080), unit="px"),
    Parameter("disturbance", 0.0, "smooth random pushes of what the servos receive, standard deviation",
        bounds=(0.0, 0.2), unit="rad"),
    Parameter("varied_starts", 0.0, "share of episodes that begin as after a failed grasp, for demonstrations",
        bounds=(0.0, 1.0)),
    Parameter("obstacles", "", "what stands or moves in the demo arm's world from the next reset on: YAML, a list of "
        "{shape: {kind: …}, course: {velocity, start_s, end_s}}; '' for none", live=True),
    Parameter("realtime_factor", 1.0, "simulated seconds per second of wall time; 0 is as fast as possible",
        bounds=(0.0, 100.0), live=True),
    Parameter("expert", False, "a scripted expert publishes the commands, for demonstrations"),
    Parameter("lockstep", False, "time advances only by the services sim/step and sim_bridge/step_simulation"),
    Parameter("own_services", True, "serve sim/reset and sim/step; false leaves those of simulation_interfaces, which "
        "other simulators have too"),
    Parameter("joint_state_rate", 0.0, "rate of physics ticks, /clock and JointState, in simulated time; 0 is 100, in "
        "Meta-World its own 80", bounds=(0.0, 500.0), unit="Hz"),
    Parameter("camera_rate", 0.0, "rate of each camera, in simulated time; 0 is the contract's rate_hz. One camera's "
        "own rate is camera_rates.NAME", bounds=(0.0, 120.0), unit="Hz"),
    Parameter("joint_map", [""], "renamings 'contract name=model name' of joints; [''] for none"),
    Parameter("command_type", "", "command message type; '' takes the contract's", choices=("", *COMMAND_TYPES)),
    Parameter("command_mode", "", "command mode; '' takes the contract's", choices=("", *COMMAND_MODES)),
    Parameter("command_timeout", 0.5, "a velocity command holds this long in simulated time, then the arm stops",
        bounds=(0.02, 10.0), unit="s"),
    Parameter("extra_streams", True, "offer /camera/<name>/... beside the contract's topics, all drawn only when "
        "subscribed"),
    Parameter("publish_color", True, "offer colour pictures among the extra streams"),
    Parameter("publish_compressed", True, "offer jpeg pictures among the extra streams"),
    Parameter("publish_depth", True, "offer depth pictures among the extra streams"),
    Parameter("publish_points", True, "offer point clouds among the extra streams"),
    Parameter("reliable_sensors", False, "publish pictures and clouds with reliable QoS; best effort otherwise"),
    Parameter("color_encoding", "rgb8", "of raw colour pictures", choices=("rgb8", "bgr8", "rgba8", "bgra8", "mono8")),
    Parameter("depth_encoding", "32FC1", "32FC1 [m] or 16UC1 [mm]", choices=("32FC1", "16UC1")),
    Parameter("compressed_format", "jpeg", "of compressed pictures", choices=("jpeg", "png")),
    Parameter("jpeg_quality", 90, "1 (small) to 100 (faithful)", bounds=(1, 100)),
    Parameter("cloud_fields", "x,y,z,rgb", "order of the point fields, some drivers differ"),
    Parameter("cloud_padding", 0, "unused bytes before each point field", bounds=(0, 64), unit="B"),
    Parameter("cloud_big_endian", False, "publish clouds in big-endian byte order"),
)  # fmt: skip


def parse_joint_map(entries: list[str]) -> dict[str, str]:
    """Contract name -> model name from 'contract=model' entries; UserError for any other form."""
    pairs = {}
    for entry in entries:
        if not entry:
            continue
        left, equals, right = entry.partition("=")
        if not (left and equals and right):
            raise UserError(f"joint_map has the entry '{entry}'; write 'contract name=model name'")
        pairs[left.strip()] = right.strip()
    return pairs
