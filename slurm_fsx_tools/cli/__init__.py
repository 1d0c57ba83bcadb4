"""The command ``slurm-fsx``: one file a group; arguments in, text out, no logic."""
