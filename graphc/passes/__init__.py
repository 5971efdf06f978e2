"""Graph to graph: gradient, simplifier, change of dtype."""
