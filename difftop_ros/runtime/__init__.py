"""What runs on the robot: planner, control, plans, clock and streams. No ROS and no node here."""
