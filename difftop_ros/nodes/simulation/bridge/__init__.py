"""The bridge: a simulated robot, of whatever engine, behind the contract's topics."""
