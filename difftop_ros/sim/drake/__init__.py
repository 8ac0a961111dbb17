"""A second engine: Drake simulates the world that is written for Gazebo. Needs the extra [drake]."""
