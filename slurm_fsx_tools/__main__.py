"""``python -m slurm_fsx_tools`` is ``slurm-fsx``."""

from __future__ import annotations

from .cli.main import main

if __name__ == "__main__":
    main()
