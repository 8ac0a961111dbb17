"""Where parts of the robot were when a message was stamped. What is done with it is the decoders' matter."""
