"""A machine in a temporary folder, with the doctor's look at it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.provision.doctor.checks import PROBES, choose
from slurm_fsx_tools.provision.doctor.engine import diagnose
from slurm_fsx_tools.provision.doctor.findings import COMPUTE, HEAD, OK, Context, Facts, Finding, Probe


class Machine:
    """Folders for /etc, /fsx and /run, and what is known of the rest: facts that are given stand for their probes."""

    def __init__(self, folder: Path) -> None:
        self.etc, self.fsx, self.run, self.dev, self.home = (
            folder / name for name in ("etc", "fsx", "run", "dev", "home")
        )
        for each in (self.etc, self.fsx, self.run / "jobs", self.dev, self.home):
            each.mkdir(parents=True)
        (self.fsx / "logs").mkdir()  # without anything it would count as not mounted
        self.values: dict[str, Any] = {"fsx.root": str(self.fsx), "runtime_dir": str(self.run)}
        self.facts: dict[str, Any] = {"roles": [HEAD, COMPUTE]}

    @property
    def context(self) -> Context:
        return Context(
            Config(self.values),
            node="localhost",
            home=str(self.home),
            etc=str(self.etc),
            dev=str(self.dev),
            now_s=time.time(),
        )

    def find(self, *names: str) -> list[Finding]:
        """Make checks, and give what is wrong."""
        probes = {name: self.known(probe) for name, probe in PROBES.items()}
        found, _ = diagnose(choose(names), probes, self.context)
        return [finding for finding in found if finding.severity != OK]

    def texts(self, *names: str) -> list[str]:
        return [finding.finding for finding in self.find(*names)]

    def known(self, probe: Probe) -> Probe:
        """Give a probe that answers with the fact that was given for it, if any was."""
        if probe.name not in self.facts:
            return probe
        value = self.facts[probe.name]

        def gather(context: Context, facts: Facts) -> Any:
            return value

        return probe._replace(gather=gather, after=())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)
