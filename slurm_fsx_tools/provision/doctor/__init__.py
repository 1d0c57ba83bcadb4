"""What is wrong with this cluster, as ``slurm-fsx doctor`` tells: one module for each subject, and the engine."""
