"""How the product gets to nodes: one archive, and the installer in it."""
