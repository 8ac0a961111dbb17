"""Rosbags: reading, writing, timing and checks of them. No ROS is imported."""
