"""The demo's scene for Isaac Sim: a USD stage and the graph that joins it to ROS, made without Isaac Sim.

`python -m difftop_ros.sim.isaac` writes config/isaac. stage.py makes the stage (usd-core), graph.py the graph's nodes;
config/isaac/standalone.py opens both inside Isaac Sim.
"""
