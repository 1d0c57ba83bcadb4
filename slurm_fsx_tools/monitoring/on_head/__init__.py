"""What monitoring does on the head node: targets kept as Slurm's nodes are, and the status page."""
