"""difftop_ros: puts planning policies based on differentiable trajectory optimisation on robots, with ROS 2.

Lives here: the version, and the search path that joins this source package with the generated `difftop_ros.msg`,
`difftop_ros.srv` and `difftop_ros.action`. Not here: any import of torch, rclpy or simulators; importing this package
costs nothing.
"""

import os
import sys
from pkgutil import extend_path

__version__ = "0.1.0"

# The package is the union of these sources and of the generated messages, which lie elsewhere: in a package of the same
# name in a colcon workspace, or in site-packages/difftop_ros_interfaces with ROS 2 from pip (tools/build_messages.py).
__path__ = extend_path(__path__, __name__)
__path__ += filter(os.path.isdir, (os.path.join(entry, "difftop_ros_interfaces") for entry in sys.path))
