"""What monitoring does on a compute node: around a job, and at boot."""
