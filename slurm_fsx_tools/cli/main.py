"""``slurm-fsx``: the commands, and the one place where an error becomes text and an exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from ..errors import SlurmFsxError

GROUPS = {
    "config": "The configuration: show it, check it.",
    "containers": "Images in the catalogue, and what a container's name means.",
    "nccl": "NCCL on the shared file system, and what jobs get of it.",
    "plugins": "Built-in and site plugins.",
}
"""One module of this package for each, loaded when it is asked for."""


class _Groups(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(GROUPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in GROUPS:
            return None
        command: click.Command = getattr(import_module(f".{cmd_name}", __package__), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # The table above is enough for the overview: no group is imported to print it.
        with formatter.section("Commands"):
            formatter.write_dl(sorted(GROUPS.items()))


@click.group(cls=_Groups, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="slurm-fsx-tools", prog_name="slurm-fsx", message="%(prog)s %(version)s")
def cli() -> None:
    """Container names, NCCL environment and metrics for Slurm jobs on FSx for Lustre."""


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
        fail(f"{error.filename or ''}: {error.strerror}".lstrip(": "), "", 1)
    sys.exit(code if isinstance(code, int) else 0)


def fail(message: str, hint: str, code: int) -> None:
    """Say on stderr what went wrong and what to do, and end the process."""
    click.echo(f"slurm-fsx: {message}", err=True)
    if hint:
        click.echo(f"           {hint}", err=True)
    sys.exit(code)
