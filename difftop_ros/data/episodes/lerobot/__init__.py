"""LeRobot's datasets (LeRobotDataset v3.0) written and read, without LeRobot itself. Needs the extra [lerobot].

layout.py says what lies where, export.py writes, read.py reads for difftop_ros.data.episodes.convert.
"""
