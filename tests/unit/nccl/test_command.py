from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, NamedTuple

import pytest

from slurm_fsx_tools.cli import main, nccl
from slurm_fsx_tools.config import source
from slurm_fsx_tools.nccl import ofi_plugin, setup_script

if TYPE_CHECKING:
    from .conftest import Site

NOBODY = 65534
# An ordinary user may not be able to read the files of this Python: what the command imports late is imported here.
LOADED = (main, nccl, source, ofi_plugin, setup_script, resource, ctypes)


class Output(NamedTuple):
    code: int
    stdout: str
    stderr: str


def command(site: Site, *arguments: str, more: str = "") -> Output:
    """Run ``slurm-fsx nccl env`` as an ordinary user."""
    config = site.run_dir.parent / "config.yaml"
    config.write_text(f"fsx: {{root: {site.fsx}}}\nruntime_dir: {site.run_dir}\n{more}")

    def run() -> list[object]:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        os.environ["SLURM_FSX_CONFIG"] = str(config)
        sys.argv = ["slurm-fsx", "nccl", "env", *arguments]
        out, err = StringIO(), StringIO()
        code: object = "none"
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main.main()
            except SystemExit as end:
                code = end.code
        return [code, out.getvalue(), err.getvalue()]

    return Output(*site.shared_fs.look(run))


def test_the_table_shows_each_variable(site: Site) -> None:
    site.install("export MARKED_UP='[red]x'")
    output = command(site)
    assert output.code == 0
    rows = {line.split()[0]: line.split()[1:3] for line in output.stdout.splitlines()}
    assert rows["FI_PROVIDER"] == ["default", "efa"]
    assert rows["LD_LIBRARY_PATH"] == ["prepend", f"{site.nccl}/lib:/usr/local/lib"]
    assert rows["MARKED_UP"] == ["default", "[red]x"]


def test_an_explanation_gives_reason_source_and_what_to_know(site: Site) -> None:
    (site.nccl / "lib/libnccl-ofi-tuner.so").touch()
    output = command(site, "--explain")
    assert "profile documented" in output.stdout
    assert "https://github.com/aws/aws-ofi-nccl/blob/master/doc/efa-env-var.md" in output.stdout
    assert "aws-ofi-nccl/issues/982" in output.stderr
    assert "nccl.profile" in output.stderr


def test_an_explanation_takes_no_warning_away_from_the_prologs_log(site: Site) -> None:
    (site.nccl / "lib/libnccl-ofi-tuner.so").touch()
    command(site, "--explain")
    assert len(site.start().notes) == 1
    assert "issues/982" in command(site, "--explain").stderr


def test_an_ordinary_user_uses_what_root_remembers_and_else_looks_for_itself(site: Site) -> None:
    assert command(site).code == 0
    assert os.listdir(site.run_dir) == [] or os.geteuid() != 0
    assert site.times_sourced == 1
    site.start()
    command(site)
    assert site.times_sourced == (2 if os.geteuid() == 0 else 1)


def test_json_is_for_programs(site: Site) -> None:
    document = json.loads(command(site, "--shell", "json").stdout)
    assert document["profile"] == "documented"
    assert document["notes"] == []
    assert {"verb": "default", "name": "FI_PROVIDER", "value": "efa", "scope": ""} in document["operations"]
    explained = json.loads(command(site, "--shell", "json", "--explain").stdout)["operations"]
    assert all(operation["why"] and operation["source"] for operation in explained)


def test_lines_for_a_shell_come_without_a_word_on_stderr(site: Site) -> None:
    (site.nccl / "lib/libnccl-ofi-tuner.so").touch()
    output = command(site, "--shell", "bash")
    assert '[ -n "${FI_PROVIDER+set}" ] || export FI_PROVIDER=efa\n' in output.stdout
    assert output.stderr == ""


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        pytest.param("", "there is no installation in", id="not-installed"),
        pytest.param("nccl: {enabled: false}\n", "nccl.enabled is false", id="switched-off"),
    ],
)
def test_nothing_is_said_to_be_nothing(site: Site, more: str, reason: str) -> None:
    site.script.unlink()
    for arguments in ((), ("--explain",), ("--shell", "bash")):
        output = command(site, *arguments, more=more)
        assert (output.code, output.stdout) == (0, "")
        assert reason in output.stderr


def test_an_installation_that_is_not_trusted_is_named_with_what_to_do(site: Site) -> None:
    site.nccl.chmod(0o777)
    output = command(site, "--shell", "bash")
    assert output.stdout == ""
    assert f"chmod go-w {site.nccl}" in output.stderr


def test_an_unknown_profile_is_an_error_that_names_the_known_ones(site: Site) -> None:
    output = command(site, "--profile", "fast")
    assert output.code == 2
    assert "documented" in output.stderr
    assert command(site, "--profile", "documented").code == 0
