"""The demo's scene for Gazebo: SDF, URDF, bridge and controllers, written from the MuJoCo model. No Gazebo is needed.

`python -m difftop_ros.sim.gazebo` writes config/gazebo. describe.py reads the model, sdf.py and urdf.py write it down,
topics.py what is bridged.
"""
