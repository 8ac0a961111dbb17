"""MuJoCo worlds, their tasks, experts, cameras and films."""
