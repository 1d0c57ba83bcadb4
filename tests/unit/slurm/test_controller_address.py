"""Where slurmctld is, from what ``scontrol show config`` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_fsx_tools.slurm.commands import CommandClient


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        pytest.param(("SlurmctldHost[0] = head", "SlurmctldPort = 6817"), "head:6817", id="plain"),
        pytest.param(("SlurmctldHost[0] = head(10.0.0.1)", "SlurmctldPort = 6820-6829"), "head:6820", id="ports"),
        pytest.param(("SlurmctldHost[0] = a", "SlurmctldHost[1] = b", "SlurmctldPort = 1"), "a:1", id="two-heads"),
        pytest.param(("SlurmctldPort = 6817",), "", id="no-host"),
        pytest.param(("SlurmctldHost[0] = head", "SlurmctldPort = (null)"), "", id="no-port"),
        pytest.param(("exit 1",), "", id="no-answer"),
    ],
)
def test_the_controller_is_where_the_configuration_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...], address: str
) -> None:
    commands = "".join(f"{line}\n" if line.startswith("exit") else f"echo '{line}'\n" for line in lines)
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\n{commands}")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert CommandClient(timeout_s=5).controller_address() == address
