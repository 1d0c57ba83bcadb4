"""``python -m slurm_fsx_tools`` is ``slurm-fsx``."""

from __future__ import annotations

import sys

from .version import described


def main() -> None:
    """Answer ``--version`` at once, for whoever asks a thousand nodes; leave the rest to the command line."""
    if sys.argv[1:] == ["--version"]:
        print(f"slurm-fsx {described()}")
        return
    from .cli.main import main as run

    run()


if __name__ == "__main__":
    main()
