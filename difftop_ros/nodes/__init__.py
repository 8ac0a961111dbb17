"""The ROS 2 nodes: thin shells around the rest of the package, and the only place that imports rclpy.

Lives here: nothing but this text; each node has its own module with a `main()`.
"""
