"""The demo's arm in Gazebo (Harmonic or later) and a policy on it: ros2 launch difftop_ros gazebo.launch.py

Needs ros_gz, and gz_ros2_control with ros2_controllers unless control:=light, which takes Gazebo's own controllers.
Written after their documentation and checked piece by piece (docs/how-to/gazebo.md); it has not run with Gazebo yet.
"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, NotEqualsSubstitution, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from difftop_ros.nodes.launching import dds_environment, with_share_paths
from difftop_ros.paths import share_path


def simulation(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Gazebo, the bridge, and under ros2_control the arm with its controllers."""
    light = LaunchConfiguration("control").perform(context) == "light"
    windowless = LaunchConfiguration("headless").perform(context) == "true"
    world = share_path("config/gazebo") / ("panda_table.sdf" if light else "table.sdf")
    gazebo = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([FindPackageShare("ros_gz_sim"), "launch", "gz_sim.launch.py"])
        ),
        launch_arguments={
            "gz_args": f"-r {'-s --headless-rendering ' if windowless else ''}{world}",
            "on_exit_shutdown": "true",
        }.items(),
    )
    topics = share_path("config/gazebo") / ("bridge_light.yaml" if light else "bridge.yaml")
    bridge = Node(
        package="ros_gz_bridge",
        executable="parameter_bridge",
        parameters=[{"config_file": str(topics), "use_sim_time": True}],
        output="screen",
    )
    if light:
        return [gazebo, bridge]
    arm = with_share_paths((share_path("config/gazebo") / "panda.urdf").read_text())
    return [
        gazebo,
        bridge,
        Node(
            package="robot_state_publisher",
            executable="robot_state_publisher",
            parameters=[{"robot_description": ParameterValue(arm, value_type=str), "use_sim_time": True}],
        ),
        Node(package="ros_gz_sim", executable="create", arguments=["-topic", "robot_description", "-name", "robot"]),
        Node(
            package="controller_manager",
            executable="spawner",
            arguments=["joint_state_broadcaster", "joint_trajectory_controller"],
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    """Arguments, then the DDS environment, Gazebo, and the policy under its time."""
    arguments = [
        DeclareLaunchArgument(
            "model",
            default_value=str(share_path("models/panda_lift")),
            description="Folder of the trained policy; '' starts none",
        ),
        DeclareLaunchArgument(
            "contract",
            default_value=str(share_path("config/panda_gazebo.yaml")),
            description="Robot contract YAML: what Gazebo's topics are called and mean",
        ),
        DeclareLaunchArgument(
            "control",
            default_value="ros2_control",
            choices=["ros2_control", "light"],
            description="Who moves the joints: gz_ros2_control, or Gazebo's own JointTrajectoryController",
        ),
        DeclareLaunchArgument(
            "headless",
            default_value="false",
            choices=["true", "false"],
            description="Gazebo without a window; cameras are drawn all the same",
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
    return LaunchDescription([*arguments, dds_environment(), OpaqueFunction(function=simulation), policy])
