"""Installing NCCL: what is asked for, what is there to build it with, the build in steps, and its publication."""
