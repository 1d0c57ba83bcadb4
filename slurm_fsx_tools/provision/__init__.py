"""What brings nodes into shape: a command on many running nodes at a time."""
