"""Trains a policy from bags and reports on difftop/training_progress: ros2 launch difftop_ros train.launch.py

The same as `difftop train`, for those who watch it in ROS tools. Launched again, a stopped run goes on. When training
ends, so does the launch.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from difftop_ros.nodes.launching import dds_environment, end_launch
from difftop_ros.paths import share_path


def generate_launch_description() -> LaunchDescription:
    """Arguments, then the DDS environment, then the node."""
    arguments = [
        DeclareLaunchArgument("bags", description="Folder with the recorded bags, one bag per episode"),
        DeclareLaunchArgument("out", description="Folder of the policy to write, e.g. models/my_policy"),
        DeclareLaunchArgument(
            "contract", default_value="", description="Robot contract YAML; empty takes config/panda_table.yaml"
        ),
        DeclareLaunchArgument(
            "device",
            default_value="auto",
            choices=["cpu", "cuda", "auto"],
            description="Where to train; cuda without a GPU is refused",
        ),
        DeclareLaunchArgument(
            "fresh",
            default_value="false",
            choices=["true", "false"],
            description="Start over instead of going on with a stopped run in the output folder",
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=str(share_path("config/trainer_node.yaml")),
            description="All other parameters (steps, horizon, seed, ...), see config/trainer_node.yaml",
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
        executable="trainer_node",
        name="difftop_trainer",
        namespace=LaunchConfiguration("namespace"),
        output="screen",
        parameters=[
            LaunchConfiguration("params_file"),
            {
                "bags": ParameterValue(LaunchConfiguration("bags"), value_type=str),
                "out": ParameterValue(LaunchConfiguration("out"), value_type=str),
                "contract": ParameterValue(LaunchConfiguration("contract"), value_type=str),
                "device": ParameterValue(LaunchConfiguration("device"), value_type=str),
                "fresh": ParameterValue(LaunchConfiguration("fresh"), value_type=bool),
            },
        ],
        on_exit=end_launch("training has ended"),
        sigterm_timeout="30",  # [s] after Ctrl-C the step in work ends and its checkpoint is written
    )
    return LaunchDescription([*arguments, dds_environment(), node])
