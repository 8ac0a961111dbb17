"""The demo's arm in Isaac Sim (5.1 or 6.x) and a policy on it: ros2 launch difftop_ros isaac.launch.py isaac:=FOLDER

The scene has not been run with Isaac Sim by its makers, see docs/how-to/isaac.md. When Isaac Sim ends, so does the
launch.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription
from launch.conditions import IfCondition, UnlessCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, NotEqualsSubstitution, PathJoinSubstitution

from difftop_ros.nodes.launching import dds_environment, end_launch
from difftop_ros.paths import share_path


def isaac(*more: str, condition: object) -> ExecuteProcess:
    """Isaac Sim by its own Python, on our stage and graph."""
    return ExecuteProcess(
        cmd=[
            PathJoinSubstitution([LaunchConfiguration("isaac"), "python.sh"]),
            str(share_path("config/isaac/standalone.py")),
            *more,
        ],
        output="screen",
        condition=condition,
        on_exit=end_launch("Isaac Sim has ended"),
    )


def generate_launch_description() -> LaunchDescription:
    """Arguments, then the DDS environment, Isaac Sim, and the policy under its time."""
    arguments = [
        DeclareLaunchArgument("isaac", description="Folder of Isaac Sim, where its python.sh is"),
        DeclareLaunchArgument(
            "model",
            default_value=str(share_path("models/panda_lift")),
            description="Folder of the trained policy; '' starts none",
        ),
        DeclareLaunchArgument(
            "contract",
            default_value=str(share_path("config/panda_isaac.yaml")),
            description="Robot contract YAML: what the graph's topics are called and mean",
        ),
        DeclareLaunchArgument(
            "headless",
            default_value="false",
            choices=["true", "false"],
            description="Isaac Sim without a window; cameras are drawn all the same",
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
            "use_sim_time": "true",
            "local_only": LaunchConfiguration("local_only"),
        }.items(),
        condition=IfCondition(NotEqualsSubstitution(LaunchConfiguration("model"), "")),
    )
    windowless = LaunchConfiguration("headless")
    return LaunchDescription(
        [
            *arguments,
            dds_environment(),
            isaac(condition=UnlessCondition(windowless)),
            isaac("--headless", condition=IfCondition(windowless)),
            policy,
        ]
    )
