"""The MuJoCo bridge: a simulated robot behind the contract's topics."""
