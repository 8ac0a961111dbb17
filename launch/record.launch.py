"""Starts the recorder: ros2 launch difftop_ros record.launch.py contract:=my_robot.yaml out:=bags

One bag per episode: begun and ended by the services /difftop_recorder/start and /difftop_recorder/stop (data: success),
or with automatic:=true by the simulation's episodes.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from difftop_ros.nodes.launching import dds_environment, end_launch


def generate_launch_description() -> LaunchDescription:
    """Arguments, then the DDS environment, then the node."""
    arguments = [
        DeclareLaunchArgument(
            "contract", default_value="", description="Robot contract YAML; empty takes config/panda_table.yaml"
        ),
        DeclareLaunchArgument("out", default_value="bags", description="Folder the bags are written into"),
        DeclareLaunchArgument(
            "name", default_value="", description="Common name of the bags; empty takes the contract's name"
        ),
        DeclareLaunchArgument(
            "automatic",
            default_value="false",
            choices=["true", "false"],
            description="A bag for each episode of the simulation, instead of the services",
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="false",
            choices=["true", "false"],
            description="Take the time from /clock, for simulators",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Of the robot; its nodes and relative topics are in it"
        ),
        DeclareLaunchArgument(
            "local_only",
            default_value="false",
            choices=["true", "false"],
            description="Keep all topics on this machine (loopback DDS profile)",
        ),
    ]
    node = Node(
        package="difftop_ros",
        executable="recorder_node",
        name="difftop_recorder",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[
            {
                "contract": ParameterValue(LaunchConfiguration("contract"), value_type=str),
                "out": ParameterValue(LaunchConfiguration("out"), value_type=str),
                "name": ParameterValue(LaunchConfiguration("name"), value_type=str),
                "automatic": ParameterValue(LaunchConfiguration("automatic"), value_type=bool),
                "use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool),
            }
        ],
        on_exit=end_launch("the recorder has ended"),
    )
    return LaunchDescription([*arguments, dds_environment(), node])
