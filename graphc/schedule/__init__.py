"""From equations to loop nests: what is fused with what, tiled how, in which order."""
