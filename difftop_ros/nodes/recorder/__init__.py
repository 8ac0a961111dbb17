"""The recorder node and what follows the graph's topics for it."""
