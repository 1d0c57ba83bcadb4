"""What is made from the code, in the checkout and in the shells that load it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_fsx_tools.cli import reference
from slurm_fsx_tools.cli.generated import COMPLETIONS, PAGES
from slurm_fsx_tools.config.model import SETTINGS

LINES = [
    pytest.param("slurm-fsx mon", {"monitoring"}, id="group"),
    pytest.param("slurm-fsx monitoring s", {"serve", "sync"}, id="command"),
    pytest.param("slurm-fsx monitoring sync --dr", {"--dry-run"}, id="option"),
    pytest.param("slurm-fsx containers import --arch a", {"auto", "amd64", "arm64"}, id="choice"),
]
BASH = """
source "$1"
read -ra COMP_WORDS <<<"$2"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
$(complete -p slurm-fsx | sed 's/.*-F \\([^ ]*\\).*/\\1/') slurm-fsx
printf '%s\\n' "${COMPREPLY[@]}"
"""
# list-choices, since what TAB inserts comes in pieces.
ZSH = """
PROMPT='' fpath=("$FOLDER" $fpath); autoload -Uz compinit; compinit -u -D; bindkey '^I' list-choices
print ready-$((20 + 1))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One in which ``slurm-fsx`` is this checkout's."""
    folder = tmp_path_factory.mktemp("bin")
    command = folder / "slurm-fsx"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m slurm_fsx_tools "$@"\n')
    command.chmod(0o755)
    path = f"{folder}:/usr/bin:/bin"
    return {"PATH": path, "PYTHONPATH": str(Path(reference.__file__).parents[2]), "HOME": str(folder), "TERM": "dumb"}


@pytest.mark.parametrize("path", PAGES)
def test_what_is_made_from_the_code_is_as_the_code_has_it(path: str, checkout: Path) -> None:
    assert (checkout / path).read_text() == PAGES[path](), "run: make pages"


def test_the_pages_have_every_command_option_and_key() -> None:
    commands = PAGES["docs/commands.md"]()
    manual = PAGES["share/man/man1/slurm-fsx.1"]()
    for command in reference.commands():
        assert " ".join(command.path) in commands
        for name in (name for option in command.options for name in option.names):
            assert f"`{name}" in commands
            assert name.replace("-", "\\-") in manual
    assert all(f"### {setting.key}\n" in PAGES["docs/config.md"]() for setting in SETTINGS)


def test_man_shows_the_manual_page_without_a_warning(checkout: Path) -> None:
    page = checkout / "share/man/man1/slurm-fsx.1"
    shown = subprocess.run(
        ["man", "--warnings", "--local-file", str(page)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
    )
    assert shown.stderr == ""
    assert "slurm-fsx containers import [OPTIONS] URI" in shown.stdout
    linted = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", str(page)], capture_output=True, text=True)
    # A date would have to be changed with each text.
    assert [line for line in linted.stdout.splitlines() if "missing date" not in line] == []


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_bash_completes(line: str, expected: set[str], checkout: Path, environment: dict[str, str]) -> None:
    script = str(checkout / "share/completions/slurm-fsx")
    done = subprocess.run(["bash", "-c", BASH, "-", script, line], capture_output=True, text=True, env=environment)
    assert (set(done.stdout.split()), done.stderr) == (expected, "")


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_zsh_completes(line: str, expected: set[str], checkout: Path, environment: dict[str, str]) -> None:
    environment = {**environment, "FOLDER": str(checkout / "share/completions")}
    terminal, end = os.openpty()
    streams = {"stdin": end, "stdout": end, "stderr": end}
    with subprocess.Popen(["zsh", "-f", "-i"], env=environment, start_new_session=True, **streams) as shell:
        os.close(end)
        try:
            os.write(terminal, ZSH.encode())
            assert read_until(terminal, {"ready-21"})
            os.write(terminal, f"{line}\t".encode())
            assert read_until(terminal, expected)
        finally:
            shell.kill()
    os.close(terminal)


def read_until(terminal: int, words: set[str]) -> bool:
    """Whether a terminal shows all these words within half a minute."""
    shown = ""
    while select.select([terminal], [], [], 30)[0]:
        shown += os.read(terminal, 4096).decode(errors="replace")
        if all(word in shown for word in words):
            return True
    return False


def test_completion_is_there_for_both_shells(checkout: Path) -> None:
    assert all((checkout / path).read_text().count("_SLURM_FSX_COMPLETE=") == 1 for path in COMPLETIONS)
