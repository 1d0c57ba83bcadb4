"""Lays out the file trees of tests/data/trees, and makes the plans of set-up for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.monitoring.prometheus.configuration import PrometheusSetup
from slurm_fsx_tools.provision.compute_node import compute_node_steps
from slurm_fsx_tools.provision.head_node import head_node_steps
from slurm_fsx_tools.provision.hooks import hook_steps
from slurm_fsx_tools.provision.installation import Installation
from slurm_fsx_tools.provision.prometheus import plan_prometheus
from slurm_fsx_tools.provision.slurm_conf import find_slurm_conf, read_slurm_conf
from slurm_fsx_tools.provision.steps import Change, Record, Step, plan
from slurm_fsx_tools.shared_fs import SharedFs

DATA = Path(__file__).resolve().parents[2] / "data/trees"
SYSTEMS = ("alinux2023", "ubuntu2204", "ubuntu2404")
PROCESSORS = ("x86_64", "aarch64")


class Tree(NamedTuple):
    """A laid-out tree, and what is installed there of ours."""

    root: str
    installation: Installation

    def steps(self, what: str, *, edit: bool = False) -> list[Step]:
        """List the steps of ``setup head``, ``setup node`` or ``setup hooks``."""
        conf = read_slurm_conf(find_slurm_conf(self.root), self.root)
        record = Record.read(what, self.root)
        if what == "head":
            return head_node_steps(Config(), self.installation, conf, None, None, "auto")
        if what == "hooks":
            return hook_steps(conf, self.installation.share, edit=edit, before=list(record.entries.values()))
        # The configuration of the cluster is read from where the shared file system is seen: in the tree, too.
        config = Config({"fsx.root": f"{self.root}/fsx"})
        shared_fs = SharedFs(config["fsx.root"], 20.0)
        return compute_node_steps(config, self.installation, conf, shared_fs, record, "auto")

    def plan(self, what: str) -> list[Change]:
        return plan(self.steps(what), Record.read(what, self.root))

    def plan_prometheus(self) -> list[Change]:
        setup = PrometheusSetup(Config(), cluster="gpu", head="ip-10-0-0-1")
        return plan_prometheus(setup, Record.read("prometheus", self.root))


def lay_out(root: Path, system: str, *parts: str) -> None:
    """Make a tree of a system's parts and ParallelCluster's, each part on top of those before."""
    root.mkdir(parents=True)
    known = {}
    for name in (system, "parallelcluster"):
        known.update(json.loads((DATA / f"{name}.json").read_text())["parts"])
    entries = {}
    for part in ("system", "image", *parts):
        # Links first: /lib is one, and folders are made below it.
        entries.update({entry["path"]: entry for entry in known[part]})
    for entry in sorted(entries.values(), key=lambda each: (each["kind"] != "link", each["path"])):
        place = root / entry["path"].lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if entry["kind"] == "link":
            place.symlink_to(entry["to"])
            continue
        if entry["kind"] == "folder":
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.write_text("".join(f"{line}\n" for line in entry["text"]))
        place.chmod(int(entry["mode"], 8))
