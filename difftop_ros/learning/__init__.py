"""Training from ingested episodes and evaluation in simulation. No ROS here; torch and Lightning are loaded on use."""
