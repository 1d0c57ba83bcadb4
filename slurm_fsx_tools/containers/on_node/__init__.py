"""What stands on one node: prepared container roots, and copies of images on its own disk."""
