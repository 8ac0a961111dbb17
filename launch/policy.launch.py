"""Starts the policy node on a robot and brings it to 'active': ros2 launch difftop_ros policy.launch.py model:=...

The node configures and activates itself once all streams of its contract are there (its parameter autostart); with
autostart:=false it stays unconfigured for your own lifecycle manager. When the node ends, so does the launch.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

from difftop_ros.nodes.launching import dds_environment, end_launch
from difftop_ros.paths import share_path


def generate_launch_description() -> LaunchDescription:
    """Arguments, then the DDS environment, then the node."""
    arguments = [
        DeclareLaunchArgument("model", description="Folder of the trained policy, e.g. models/panda_lift"),
        DeclareLaunchArgument(
            "contract", default_value="", description="Robot contract YAML; empty takes the copy the policy carries"
        ),
        DeclareLaunchArgument(
            "device",
            default_value="cpu",
            choices=["cpu", "cuda", "auto"],
            description="Where the policy computes; cuda without a GPU is refused",
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=str(share_path("config/policy_node.yaml")),
            description="Parameters of the node (deadline, gate, ...), see config/policy_node.yaml",
        ),
        DeclareLaunchArgument(
            "autostart",
            default_value="true",
            choices=["true", "false"],
            description="Configure and activate as soon as all streams are there; false leaves that to you",
        ),
        DeclareLaunchArgument(
            "resume_motion",
            default_value="false",
            choices=["true", "false"],
            description="Activate although the last run was killed and left no safe command",
        ),
        DeclareLaunchArgument(
            "wait_for_task",
            default_value="false",
            choices=["true", "false"],
            description="Hold once active until a goal of the action run_policy is accepted",
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="false",
            choices=["true", "false"],
            description="Take the time from /clock, for simulators and bag replay",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Of the robot; its nodes and relative topics are in it"
        ),
        DeclareLaunchArgument(
            "clock",
            default_value="/clock",
            description="Topic of the time with use_sim_time, if a namespace has its own",
        ),
        DeclareLaunchArgument(
            "local_only",
            default_value="false",
            choices=["true", "false"],
            description="Keep all topics on this machine (loopback DDS profile)",
        ),
    ]
    node = LifecycleNode(
        package="difftop_ros",
        executable="policy_node",
        name="difftop_policy",
        namespace=LaunchConfiguration("namespace"),
        remappings=[("/clock", LaunchConfiguration("clock"))],
        output="screen",
        parameters=[
            LaunchConfiguration("params_file"),
            {
                "model": ParameterValue(LaunchConfiguration("model"), value_type=str),
                "contract": ParameterValue(LaunchConfiguration("contract"), value_type=str),
                "device": ParameterValue(LaunchConfiguration("device"), value_type=str),
                "autostart": ParameterValue(LaunchConfiguration("autostart"), value_type=bool),
                "resume_motion": ParameterValue(LaunchConfiguration("resume_motion"), value_type=bool),
                "wait_for_task": ParameterValue(LaunchConfiguration("wait_for_task"), value_type=bool),
                "use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool),
            },
        ],
        on_exit=end_launch("the policy node has ended"),
    )
    return LaunchDescription([*arguments, dds_environment(), node])
