"""A real cluster for each way of running containers, made once and shared by all tests of a session.

The clusters run the host's Slurm, Python and programs, or those of another Debian release, whose root folder
``SLURM_FSX_TEST_SYSTEM`` names. ``SLURM_FSX_TEST_INSTALLATION`` is the product as installed for it: /opt/slurm-fsx in
that root unless told, and the checkout's own on the host.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.images import make_image
from lab.nccl import install_nccl
from lab.prometheus import start_node_exporter
from lab.pyxis import PLUGIN as PYXIS
from lab.pyxis import Pyxis, make_data_folders

PLUGIN = "/opt/slurm-fsx/lib/slurm/spank_slurm_fsx.so"
COMMAND = "/opt/slurm-fsx/bin/slurm-fsx"
SYSTEM = Path(os.environ.get("SLURM_FSX_TEST_SYSTEM", "/"))


@pytest.fixture(scope="session")
def system() -> Path:
    """The root folder of the Debian that the clusters run."""
    return SYSTEM


@pytest.fixture(scope="session")
def installation(checkout: Path) -> Path:
    """The checkout's own installation, as `make test` made it, or the one in another Debian's root."""
    if os.geteuid() != 0:
        pytest.skip("a private cluster takes namespaces and mounts: run as root")
    usual = checkout / ".venv" if SYSTEM.samefile("/") else SYSTEM / "opt/slurm-fsx"
    home = Path(os.environ.get("SLURM_FSX_TEST_INSTALLATION", usual))
    how = "make test" if home == checkout / ".venv" else "make install for it"
    for source in (checkout / "slurm_fsx_tools").rglob("*.py"):
        installed = [
            path for path in home.glob("lib/python3*/site-packages") for path in [path / source.relative_to(checkout)]
        ]
        if not installed or not installed[0].exists() or installed[0].read_bytes() != source.read_bytes():
            pytest.fail(f"{source} is not what is installed in {home}: run {how}", pytrace=False)
    return home


class Site:
    """A cluster with a catalogue and an NCCL installation, and the words its users would use."""

    def __init__(self, cluster: Cluster, runtime: str, pyxis: Pyxis | None = None) -> None:
        self.cluster = cluster
        self.runtime = runtime
        self._pyxis = pyxis

    def set_up_containers(self) -> None:
        """Give each node what its containers need besides programs; a node that was rebooted needs it again."""
        make_data_folders(self.cluster.machines)
        if self.runtime == "pyxis" and self._pyxis:
            _set_up_enroot(self.cluster, self._pyxis.enroot)

    def image(
        self, name: str, environment: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None
    ) -> Path:
        """Put an image into the catalogue."""
        variables = {"IMAGE": name, **(environment or {})}
        return make_image(self.cluster.fsx / "containers" / f"{name}.sqsh", variables, files)

    def index(self) -> None:
        """Write the catalogue's index, as an admin does after adding images."""
        done = self.cluster.run_on("head", [COMMAND, "containers", "index"])
        assert done.returncode == 0, done.stderr

    def configure(self, text: str) -> None:
        """Give every node a configuration."""
        self.cluster.write_on_all("/etc/slurm-fsx/config.yaml", text)
        done = self.cluster.run_on("head", [COMMAND, "config", "check"])
        assert done.returncode == 0, done.stderr

    def srun(self, *arguments: str, env: dict[str, str] | None = None) -> list[dict[str, str]]:
        """Run ``env`` by srun, and give each task's environment."""
        done = self.cluster.srun("--label", *arguments, "env", env=env)
        assert done.returncode == 0, done.stderr + self.cluster.report()
        return tasks(done.stdout)

    def sbatch(self, script: str, *options: str, env: dict[str, str] | None = None) -> str:
        """Run a batch script to its end, and give its output."""
        job = self.cluster.sbatch(f"#!/bin/sh\n{script}\n", *options, env=env)
        state = self.cluster.wait(job)
        assert state == "COMPLETED", f"{state}\n{job.output}\n{self.cluster.report()}"
        return job.output


def tasks(output: str) -> list[dict[str, str]]:
    """Read what ``srun --label … env`` printed: an environment for each task, in their order."""
    found: dict[int, dict[str, str]] = {}
    for line in output.splitlines():
        label, _, text = line.partition(": ")
        name, equals, value = text.partition("=")
        if equals and label.strip().isdigit():
            found.setdefault(int(label), {})[name] = value
    return [found[number] for number in sorted(found)]


def environment(output: str) -> dict[str, str]:
    """Read what ``env`` printed."""
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


@pytest.fixture(scope="session", name="environment")
def environment_fixture() -> object:
    """Reads what ``env`` printed."""
    return environment


def plugstack(runtime: str, scope: str = "job") -> list[str]:
    """Give the lines for a way of running containers, and, with Pyxis, how long a container is there."""
    if runtime == "bwrap":
        return [f"optional {PLUGIN} runtime=bwrap"]
    options = f"container_scope={scope}"
    ours = f"optional {PLUGIN} {options}"
    if runtime == "standin":
        options += " data=/var/lib/standin mount=/fsx/nccl"
    return [f"{ours} line=before", f"required {PYXIS} {options}", f"{ours} line=after"]


def make_pyxis(runtime: str, folder: Path) -> Pyxis | None:
    """Give the real Pyxis, or build what stands in for it."""
    if runtime == "bwrap":
        return None
    if runtime == "standin":
        build = folder / "standin"
        # Slurm loads a plugin of its own release only; the other release's C library is not to be compiled with.
        headers = build / "include"
        headers.mkdir(parents=True)
        (headers / "slurm").symlink_to(SYSTEM / "usr/include/slurm")
        return Pyxis.stand_in(build, headers)
    pyxis = Pyxis.from_environment()
    if pyxis is None:
        pytest.skip("the real Pyxis is in no registry: name it by SLURM_FSX_TEST_PYXIS=/path/spank_pyxis.so")
    return pyxis


def _set_up_enroot(cluster: Cluster, enroot: Path) -> None:
    """Give every container what enroot mounts in it, and the shared NCCL."""
    for file in sorted((enroot / "etc/enroot").glob("*.d/*")):
        if file.parent.name != "enroot.conf.d":
            path = f"/etc/enroot/{file.parent.name}/{file.name}"
            cluster.write_on_all(path, file.read_text(), file.stat().st_mode & 0o777)
    mount = "/fsx/nccl /fsx/nccl none x-create=dir,bind,ro,nosuid,nodev,nofail\n"
    cluster.write_on_all("/etc/enroot/mounts.d/slurm-fsx.fstab", mount)


@pytest.fixture(scope="session", params=["bwrap", "standin", "pyxis"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, installation: Path, checkout: Path
) -> Iterator[Site]:
    """A cluster of two nodes for each way of running containers."""
    yield from make_site(request.param, tmp_path_factory.mktemp(request.param), installation, checkout)


@pytest.fixture(scope="session")
def bare_site(tmp_path_factory: pytest.TempPathFactory, installation: Path, checkout: Path) -> Iterator[Site]:
    """A cluster of two nodes whose containers run by bubblewrap, for what does not depend on that."""
    yield from make_site("bwrap", tmp_path_factory.mktemp("node"), installation, checkout)


def make_site(
    runtime: str, folder: Path, installation: Path, checkout: Path, *, exporters: bool = True
) -> Iterator[Site]:
    """Start a cluster, fill its catalogue and install an NCCL on it; with a node_exporter on each node, unless told."""
    share = installation / "share/slurm-fsx"
    pyxis = make_pyxis(runtime, folder)
    with Cluster.start(
        folder,
        nodes=2,
        installation=installation,
        plugstack=plugstack(runtime),
        prolog=[share / "prolog.d/50-slurm-fsx"],
        epilog=[share / "epilog.d/50-slurm-fsx"],
        pyxis=pyxis,
        system=SYSTEM,
    ) as cluster:
        site = Site(cluster, runtime, pyxis)
        site.set_up_containers()
        install_nccl(cluster.fsx)
        for name in (
            "nvcr.io_nvidia_pytorch-24.01-py3",
            "nvcr.io_nvidia_pytorch-24.03-py3",
            "nvcr.io_nvidia_nemo-24.01",
        ):
            site.image(name)
        site.image("own-nccl", {"NCCL_VERSION": "9.9.9"})
        site.index()
        if exporters:
            for node in cluster.nodes.values():
                start_node_exporter(node)
                # A prolog that comes before its exporter leaves it alone for minutes.
                done = node.run([COMMAND, "monitoring", "register", "--wait=20"])
                assert done.returncode == 0, done.stderr
        yield site
