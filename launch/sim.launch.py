"""Starts the simulated robot, and the policy node on it when a model is given: ros2 launch difftop_ros sim.launch.py

Every parameter of the bridge is an argument too; `ros2 launch difftop_ros sim.launch.py --show-args` lists them.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, NotEqualsSubstitution
from launch_ros.actions import Node

from difftop_ros.nodes.launching import dds_environment, end_launch, given, parameter_arguments
from difftop_ros.nodes.simulation.bridge.parameters import PARAMETERS
from difftop_ros.paths import share_path

RENAMED = {"model": "mjcf"}  # 'model' is the policy's folder here, as in policy.launch.py


def bridge(context: LaunchContext) -> list[Node]:
    """The simulated robot, with the parameters of the file and over them those given as arguments."""
    node = Node(
        package="difftop_ros",
        executable="sim_bridge",
        name="sim_bridge",
        namespace=LaunchConfiguration("namespace"),
        remappings=[("/clock", "clock")],
        output="screen",
        parameters=[LaunchConfiguration("params_file"), given(context, PARAMETERS, RENAMED)],
        on_exit=end_launch("the simulation has ended"),
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    """Arguments, then the DDS environment, the bridge, and the policy under simulation time."""
    arguments = [
        DeclareLaunchArgument(
            "model", default_value="", description="Folder of a trained policy to run on it; empty starts none"
        ),
        DeclareLaunchArgument(
            "params_file",
            default_value=str(share_path("config/sim_bridge.yaml")),
            description="Parameters of the bridge; those given as arguments win",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Of the robot; its nodes and relative topics are in it"
        ),
        DeclareLaunchArgument(
            "local_only",
            default_value="true",
            choices=["true", "false"],
            description="Keep all topics on this machine (loopback DDS profile)",
        ),
    ]
    policy = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share_path("launch/policy.launch.py"))),
        launch_arguments={
            "model": LaunchConfiguration("model"),
            "contract": LaunchConfiguration("contract"),
            "namespace": LaunchConfiguration("namespace"),
            "clock": "clock",
            "use_sim_time": "true",
            "params_file": str(share_path("config/policy_node.yaml")),
            "local_only": LaunchConfiguration("local_only"),
        }.items(),
        condition=IfCondition(NotEqualsSubstitution(LaunchConfiguration("model"), "")),
    )
    described = [*arguments, *parameter_arguments(PARAMETERS, RENAMED)]
    return LaunchDescription([*described, dds_environment(), OpaqueFunction(function=bridge), policy])
