"""``slurm-fsx``: the commands, and the one place where an error becomes text and an exit code."""

from __future__ import annotations

import os
import sys

import click

from ..errors import SlurmFsxError
from ..version import described
from .lazy import Entry, LazyGroup

GROUPS = {
    "config": Entry(f"{__package__}.config", "config", "The configuration: show it, check it."),
    "containers": Entry(
        f"{__package__}.containers", "containers", "Container images: import, list and check them; what a name means."
    ),
    "monitoring": Entry(
        f"{__package__}.monitoring", "monitoring", "Prometheus, CloudWatch, and a page of the cluster's state."
    ),
    "doctor": Entry(f"{__package__}.doctor", "doctor", "Find out what is wrong, why it counts, and what mends it."),
    "job": Entry(f"{__package__}.job", "job", "A job's record: nodes, image, NCCL version, utilisation."),
    "nccl": Entry(f"{__package__}.nccl", "nccl", "NCCL on the shared file system, and what jobs get of it."),
    "plugins": Entry(f"{__package__}.plugins", "plugins", "Built-in and site plugins."),
    "setup": Entry(f"{__package__}.setup", "setup", "Set up the head node, compute nodes and Slurm's hooks."),
    "tidy": Entry(f"{__package__}.tidy", "tidy", "Remove what jobs that have ended left on the shared file system."),
}


@click.group(cls=LazyGroup, entries=GROUPS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(described(), prog_name="slurm-fsx", message="%(prog)s %(version)s")
def cli() -> None:
    """Container names, NCCL environment and metrics for Slurm jobs on FSx for Lustre.

    Users begin with `containers list`, `nccl env` and `job`; admins with `setup` and `doctor`.
    """


def main() -> None:
    """Run the command line, and end the process."""
    try:
        code = cli.main(prog_name="slurm-fsx", standalone_mode=False)
    except SlurmFsxError as error:
        fail(error.message, error.hint, error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except BrokenPipeError:
        # The reader, head(1) say, has had enough. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        hint = "run it as root" if isinstance(error, PermissionError) and os.geteuid() != 0 else ""
        fail(f"{error.filename or ''}: {error.strerror}".lstrip(": "), hint, 1)
    sys.exit(code if isinstance(code, int) else 0)


def fail(message: str, hint: str, code: int) -> None:
    """Say on stderr what went wrong and what to do, and end the process."""
    click.echo(f"slurm-fsx: {message}", err=True)
    if hint:
        click.echo(f"           {hint}", err=True)
    sys.exit(code)
