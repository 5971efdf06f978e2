"""From nodes to equations: what each tensor element is, with every movement folded into index maps."""
