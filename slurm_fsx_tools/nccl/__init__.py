"""NCCL in ``/fsx/nccl``: what is installed there, and what a job's environment gets from it."""
