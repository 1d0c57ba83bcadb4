"""Slurm, as commands see it: the one place that asks it anything. Prologs and epilogs never do."""
