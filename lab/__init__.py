"""A private Slurm cluster on one host, for tests, bench and demo: real daemons, nothing changed outside a folder."""
