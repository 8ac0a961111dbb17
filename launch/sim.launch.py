"""Starts the simulated robot, and the policy node on it when a model is given: ros2 launch difftop_ros sim.launch.py"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, NotEqualsSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from difftop_ros.nodes.launching import dds_environment, end_launch
from difftop_ros.paths import share_path


def generate_launch_description() -> LaunchDescription:
    """Arguments, then the DDS environment, the bridge, and the policy under simulation time."""
    arguments = [
        DeclareLaunchArgument(
            "contract", default_value="", description="Robot contract YAML; empty takes config/panda_table.yaml"
        ),
        DeclareLaunchArgument(
            "task",
            default_value="",
            description="Task to simulate: reach, push, lift or none; empty takes the contract's",
        ),
        DeclareLaunchArgument("seed", default_value="0", description="Seed of the first episode's random start"),
        DeclareLaunchArgument(
            "realtime_factor",
            default_value="1.0",
            description="Simulated seconds per second of wall time; 0 is as fast as possible",
        ),
        DeclareLaunchArgument(
            "lockstep",
            default_value="false",
            choices=["true", "false"],
            description="Let time advance only by the service /sim/step",
        ),
        DeclareLaunchArgument(
            "model", default_value="", description="Folder of a trained policy to run on it; empty starts none"
        ),
        DeclareLaunchArgument(
            "local_only",
            default_value="true",
            choices=["true", "false"],
            description="Keep all topics on this machine (loopback DDS profile)",
        ),
    ]
    bridge = Node(
        package="difftop_ros",
        executable="sim_bridge",
        name="sim_bridge",
        output="screen",
        parameters=[
            {
                "contract": ParameterValue(LaunchConfiguration("contract"), value_type=str),
                "task": ParameterValue(LaunchConfiguration("task"), value_type=str),
                "seed": ParameterValue(LaunchConfiguration("seed"), value_type=int),
                "realtime_factor": ParameterValue(LaunchConfiguration("realtime_factor"), value_type=float),
                "lockstep": ParameterValue(LaunchConfiguration("lockstep"), value_type=bool),
            }
        ],
        on_exit=end_launch("the simulation has ended"),
    )
    policy = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share_path("launch/policy.launch.py"))),
        launch_arguments={
            "model": LaunchConfiguration("model"),
            "contract": LaunchConfiguration("contract"),
            "use_sim_time": "true",
            "local_only": LaunchConfiguration("local_only"),
        }.items(),
        condition=IfCondition(NotEqualsSubstitution(LaunchConfiguration("model"), "")),
    )
    return LaunchDescription([*arguments, dds_environment(), bridge, policy])
