r"""A private Slurm cluster: a head node where users log in, compute nodes, a shared /fsx, jobs by ada and bob.

with Cluster.start(folder, nodes=2, plugstack=["optional /opt/slurm-fsx/lib/slurm/spank_slurm_fsx.so"]) as cluster:
    job = cluster.sbatch("#!/bin/sh\nsrun hostname", "--nodes=2")
    assert cluster.wait(job) == "COMPLETED"
    print(job.output)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from .errors import LabError
from .node import CHECKOUT, Daemon, Node
from .node_root import OWN, Bind, RootPlan, User
from .pyxis import Pyxis
from .slurm_conf import FIRST_NODE_PORT, NO_SCRIPT, NodeLine, cgroup_conf, gres_conf, slurm_conf
from .syslog import SyslogLine

ADA = User("ada", 2001)
BOB = User("bob", 2002)
USERS = (ADA, BOB)
HOME = "/opt/slurm-fsx"

_HEAD_ADDRESS = "10.0.0.254"
_START_TIMEOUT_S = 30.0
_POLL_S = 0.03


class Job:
    """A job that was handed to sbatch.

    Attributes:
        id: Slurm's number for it; an array's number stands for all of its tasks.
    """

    def __init__(self, job_id: int, home: Path) -> None:
        self.id = job_id
        self._home = home

    @property
    def outputs(self) -> dict[str, str]:
        """What it has printed, by file name: slurm-ID.out, or slurm-ID_TASK.out for each task of an array."""
        files = sorted(self._home.glob(f"slurm-{self.id}.out")) + sorted(self._home.glob(f"slurm-{self.id}_*.out"))
        return {file.name: file.read_text(errors="replace") for file in files}

    @property
    def output(self) -> str:
        """All that it has printed."""
        return "".join(self.outputs.values())

    def __repr__(self) -> str:
        return f"Job({self.id})"


class Cluster:
    """A running cluster; `Cluster.start` makes one.

    Attributes:
        folder: The work folder; all that outlives the cluster lies in it (logs, homes, /fsx, configuration).
        fsx: The shared file system's folder on the host.
        slurm_etc: The nodes' shared /etc/slurm.
        head: The login node, with slurmctld.
        nodes: The compute nodes by name: n1, n2, ...
        release: Slurm's release, e.g. (22, 5).
    """

    def __init__(self, folder: Path, fsx: Path, head: Node, nodes: dict[str, Node], lock: IO[str]) -> None:
        self.folder = folder
        self.fsx = fsx
        self.slurm_etc = folder / "slurm"
        self.head = head
        self.nodes = nodes
        self.release = (0, 0)
        self._lock = lock
        self._slurmctld: Daemon | None = None
        self._slurmds: dict[str, Daemon] = {}

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        nodes: int = 2,
        installation: Path | None = None,
        plugstack: Iterable[str] = (),
        slurm_conf: Mapping[str, str | None] | None = None,
        prolog: Iterable[Path] = (),
        epilog: Iterable[Path] = (),
        pyxis: Pyxis | None = None,
        fsx: Path | None = None,
        gpus: int = 0,
        binds: Iterable[Bind] = (),
        system: Path = Path("/"),
    ) -> Cluster:
        """Start a cluster and wait until its nodes are idle.

        Args:
            folder: Its work folder; made if need be. One cluster at a time may use it.
            nodes: How many compute nodes.
            installation: A virtual environment that the nodes have at /opt/slurm-fsx.
            plugstack: The lines of plugstack.conf.
            slurm_conf: Settings for slurm.conf that add to the lab's, replace them, or remove them by None.
            prolog: Scripts that are put into /etc/slurm/prolog.d.
            epilog: Scripts that are put into /etc/slurm/epilog.d.
            pyxis: A real Pyxis with its enroot; its line in plugstack.conf is up to `plugstack`.
            fsx: The folder that the nodes have at /fsx; FOLDER/fsx unless told.
            gpus: How many pretended GPUs each node has.
            binds: More of the host's files or folders that the nodes see.
            system: Where Slurm and all programs come from: the root folder of another Debian release, say.

        Raises:
            LabError: a node or daemon did not come up; the message ends with what its log says.
        """
        if os.geteuid() != 0:
            raise LabError("a private cluster needs root, for namespaces and mounts: run as root")
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        cluster = cls._plan(folder, nodes, installation, pyxis, (fsx or folder / "fsx").resolve(), gpus, binds, system)
        try:
            cluster._boot()
            cluster._write_configuration(plugstack, slurm_conf or {}, prolog, epilog, gpus)
            cluster._start_slurm()
            cluster._check_installation(installation)
        except BaseException:
            cluster.stop()
            raise
        return cluster

    def stop(self) -> None:
        """Switch all nodes off. Nothing of the cluster is left but its folder."""
        for node in self.machines:
            node.begin_stop()
        for node in self.machines:
            node.stop()
        self._lock.close()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # What users do.

    def sbatch(self, script: str, *options: str, user: str = "ada", env: dict[str, str] | None = None) -> Job:
        """Submit a batch script from the user's home.

        Raises:
            LabError: sbatch refused it; use `submit` where that is what a test is about.
        """
        result = self.submit(script, *options, user=user, env=env)
        if result.returncode != 0:
            raise LabError(f"sbatch refused the script: {result.stderr.strip()}")
        return Job(int(result.stdout.strip().split(";")[0]), self.home(user))

    def submit(
        self, script: str, *options: str, user: str = "ada", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Hand a script to ``sbatch --parsable``, and give its answer, whatever it is."""
        return self.head.run(["sbatch", "--parsable", *options], user, env=env, input=script)

    def srun(
        self, *arguments: str, user: str = "ada", env: dict[str, str] | None = None, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run srun on the login node to its end."""
        return self.head.run(["srun", *arguments], user, env=env, timeout_s=timeout_s)

    def salloc(
        self, *arguments: str, user: str = "ada", env: dict[str, str] | None = None, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run salloc on the login node to its end."""
        return self.head.run(["salloc", *arguments], user, env=env, timeout_s=timeout_s)

    def wait(self, job: Job, timeout_s: float = 60) -> str:
        """Wait until a job has ended on all its nodes, epilogs included.

        Returns:
            Its state, e.g. COMPLETED; of an array, the first state that is not COMPLETED, if there is one.

        Raises:
            LabError: it has not ended in time; the message says what it waits for.
        """
        deadline = time.monotonic() + timeout_s
        while self._queue(job):
            if time.monotonic() > deadline:
                raise LabError(
                    f"job {job.id} has not ended within {timeout_s:g} s: {self._queue(job)}\n{self.report()}"
                )
            time.sleep(_POLL_S)
        states = [record["JobState"] for record in self.show_job(job)]
        return next((state for state in states if state != "COMPLETED"), "COMPLETED")

    def show_job(self, job: Job) -> list[dict[str, str]]:
        """Give what scontrol tells about a job, a dictionary for each task of an array."""
        text = self._slurm("scontrol", "show", "job", "--oneliner", str(job.id))
        return [dict(re.findall(r"(?:^| )(\w[\w/:]*)=(\S*)", line)) for line in text.splitlines() if line]

    def cancel(self, job: Job) -> None:
        """Cancel a job, and wait until it has ended."""
        self._slurm("scancel", str(job.id))
        self.wait(job)

    def home(self, user: str) -> Path:
        """A user's home folder, as the host sees it."""
        return self.folder / "home" / user

    # What admins do.

    def run_on(
        self,
        node: str,
        arguments: Sequence[str | os.PathLike[str]],
        user: str = "root",
        *,
        env: dict[str, str] | None = None,
        input: str | None = None,
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on ``head`` or a compute node to its end; see `Node.run`."""
        return self.machine(node).run(arguments, user, env=env, input=input, timeout_s=timeout_s)

    def machine(self, name: str) -> Node:
        """The head node or a compute node."""
        return self.head if name == self.head.name else self.nodes[name]

    @property
    def machines(self) -> list[Node]:
        """The head node and all compute nodes."""
        return [self.head, *self.nodes.values()]

    def write_on_all(self, path: str, text: str, mode: int = 0o644) -> None:
        """Put a file on the head node and all compute nodes, owned by root."""
        for node in self.machines:
            node.write(path, text, mode)

    def set_plugstack(self, lines: Iterable[str]) -> None:
        """Write plugstack.conf; commands and steps that start from now on use it."""
        _write(self.slurm_etc / "plugstack.conf", "".join(f"{line}\n" for line in lines))

    def node_states(self) -> dict[str, str]:
        """The compute nodes' states as sinfo has them: idle, mixed, allocated, completing, drained, down*, ..."""
        return dict(
            line.split() for line in self._slurm("sinfo", "--Node", "--noheader", "--format=%N %T").splitlines()
        )

    def node_reason(self, name: str) -> str:
        """Why a node is drained or down, or ``none``."""
        return self._slurm("sinfo", "--noheader", f"--nodes={name}", "--format=%E").strip()

    def resume(self, *names: str) -> None:
        """Take nodes back into service after a drain, and wait until they are idle."""

        def settled() -> bool:
            states = self.node_states()
            return all(states[name].startswith(("idle", "drained", "down")) for name in names)

        self.wait_until(settled, f"{', '.join(names)} done with their jobs")
        for name in names:
            if self.node_states()[name] != "idle":
                self._slurm("scontrol", "update", f"NodeName={name}", "State=RESUME")
        self.wait_until(lambda: all(self.node_states()[name] == "idle" for name in names), f"{', '.join(names)} idle")

    def wait_until_idle(self, timeout_s: float = 30) -> None:
        """Wait until no node has anything to do.

        Raises:
            LabError: one still has, or is drained or down.
        """
        self.wait_until(lambda: set(self.node_states().values()) == {"idle"}, "all nodes idle", timeout_s)

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
        """Wait until something is so.

        Raises:
            LabError: it was not so in time; the message says what, and how the cluster is.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise LabError(f"not within {timeout_s:g} s: {what}\n{self.report()}")
            time.sleep(_POLL_S)

    def reconfigure(self) -> None:
        """Have all daemons read slurm.conf again."""
        self._slurm("scontrol", "reconfigure")

    def slurmd(self, name: str) -> Daemon:
        """The slurmd of a node."""
        return self._slurmds[name]

    @property
    def slurmctld(self) -> Daemon:
        """The controller."""
        assert self._slurmctld is not None
        return self._slurmctld

    def start_slurmd(self, name: str) -> Daemon:
        """Start the slurmd of a node, after ``slurmd(name).stop()``. Jobs that run on it go on."""
        self._slurmds[name] = self.nodes[name].start_daemon("slurmd", ["slurmd", "-D", "-N", name])
        return self._slurmds[name]

    def reboot(self, name: str) -> None:
        """Cut a compute node's power, and start it afresh: what was written to its own folders is gone."""
        self.nodes[name].stop()
        self.nodes[name].start()
        self.start_slurmd(name)

    def start_slurmctld(self) -> Daemon:
        """Start the controller, after ``slurmctld.stop()``."""
        self._slurmctld = self.head.start_daemon("slurmctld", ["slurmctld", "-D"])
        return self._slurmctld

    @property
    def syslog(self) -> list[SyslogLine]:
        """What the programs of all machines have told syslog, machine by machine."""
        return [line for node in self.machines for line in node.syslog]

    @property
    def slurmctld_log(self) -> str:
        return _text(self.head.log / "slurm/slurmctld.log")

    def slurmd_log(self, name: str) -> str:
        """What the slurmd of a node has logged, and the slurmstepds that it started."""
        return _text(self.nodes[name].log / "slurm/slurmd.log")

    def report(self) -> str:
        """How the cluster is, for messages: nodes, queue, the ends of the logs."""
        parts = []
        if self.head.pid:
            for command in (["sinfo", "--Node", "--long"], ["squeue", "--long"]):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    parts.append(self.head.run(command, timeout_s=10).stdout)
        logs = [(self.head.log / name, 5) for name in ("slurmctld.out", "munged.out", "slurm/slurmctld.log")]
        for node in self.nodes.values():
            logs += [(node.log / "slurmd.out", 5), (node.log / "slurm/slurmd.log", 10), (node.log / "syslog", 5)]
        for file, lines in logs:
            end = _text(file).splitlines()[-lines:]
            if end:
                parts.append("\n".join([f"--- end of {file}", *end]))
        return "\n".join(parts)

    # How it comes up.

    @classmethod
    def _plan(
        cls,
        folder: Path,
        count: int,
        installation: Path | None,
        pyxis: Pyxis | None,
        fsx: Path,
        gpus: int,
        binds: Iterable[Bind],
        system: Path,
    ) -> Cluster:
        lock = (folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise LabError(f"a cluster runs in {folder} already: stop it, or use another folder") from None
        for leftover in ("slurm", "munge", "log", "nodes"):  # of a run that was killed
            shutil.rmtree(folder / leftover, ignore_errors=True)
        for name in ("slurm/prolog.d", "slurm/epilog.d", "munge", "home"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for user in USERS:
            home = folder / "home" / user.name
            home.mkdir(exist_ok=True)
            os.chown(home, user.uid, user.uid)
            home.chmod(0o750)
        fsx.mkdir(parents=True, exist_ok=True)

        addresses = {"head": _HEAD_ADDRESS, **{f"n{number}": f"10.0.0.{number}" for number in range(1, count + 1)}}
        shared = [
            Bind(str(folder), str(folder)),
            Bind(str(folder / "slurm"), "/etc/slurm"),
            Bind(str(folder / "munge"), "/run/munge"),
            Bind(str(fsx), "/fsx"),
            *(Bind(str(folder / "home" / user.name), user.home) for user in USERS),
            *_product_binds(installation, system),
            *(pyxis.binds if pyxis else ()),
            *binds,
        ]
        machines: list[Node] = []
        for name in addresses:
            log = folder / "log" / name
            scratch = folder / "nodes" / name
            (log / "slurm").mkdir(parents=True)
            scratch.mkdir(parents=True)
            plan = RootPlan(
                hostname=name,
                scratch=str(scratch),
                system=str(system),
                binds=[Bind(str(log), "/var/log"), *shared],
                users=list(USERS),
                hosts=addresses,
                gpus=0 if name == "head" else gpus,
            )
            first = machines[0] if machines else None
            machines.append(Node(plan, log, [] if first else list(addresses.values()), first))
        return cls(folder, fsx, machines[0], {node.name: node for node in machines[1:]}, lock)

    def _boot(self) -> None:
        # The lock goes to the head: it lasts as long as the cluster, and what the owner forks does not hold it.
        self.head.start(self._lock.fileno())
        self._lock.close()
        for node in self.nodes.values():
            node.begin_start()
        for node in self.nodes.values():
            node.finish_start()

    def _write_configuration(
        self,
        plugstack: Iterable[str],
        extra: Mapping[str, str | None],
        prolog: Iterable[Path],
        epilog: Iterable[Path],
        gpus: int,
    ) -> None:
        version = self._slurm("slurmctld", "-V")  # "slurm-wlm 22.05.8"
        match = re.search(r"(\d+)\.(\d+)", version)
        if match is None:
            raise LabError(f"cannot read Slurm's release from {version!r}")
        self.release = (int(match[1]), int(match[2]))
        lines = [
            NodeLine(name, f"10.0.0.{number}", FIRST_NODE_PORT + number - 1)
            for number, name in enumerate(self.nodes, start=1)
        ]
        files = {
            "slurm.conf": slurm_conf(lines, gpus, extra),
            "gres.conf": gres_conf(gpus),
            "cgroup.conf": cgroup_conf(self.release),
        }
        for name, text in files.items():
            if text:
                _write(self.slurm_etc / name, text)
        self.set_plugstack(plugstack)
        for scripts, target in ((prolog, "prolog.d"), (epilog, "epilog.d")):
            _write(self.slurm_etc / target / "00-nothing", NO_SCRIPT, 0o755)
            for script in scripts:
                _write(self.slurm_etc / target / script.name, script.read_text(), 0o755)

    def _start_slurm(self) -> None:
        key = self.head.write("/etc/munge/munge.key", "", 0o600)
        key.write_bytes(os.urandom(128))
        # One munged for all: its socket lies in a folder that the nodes share, and it tells who calls by the kernel.
        munged = self.head.start_daemon("munged", ["munged", "--foreground", "--force", "--num-threads=4"])
        self._wait_for_start((self.folder / "munge/munge.socket.2").is_socket, munged)
        slurmctld = self.start_slurmctld()
        self._wait_for_start(lambda: "is UP" in self.head.run(["scontrol", "ping"]).stdout, slurmctld)
        slurmds = [self.start_slurmd(name) for name in self.nodes]
        self._wait_for_start(lambda: set(self.node_states().values()) == {"idle"}, *slurmds)

    def _wait_for_start(self, condition: Callable[[], bool], *daemons: Daemon) -> None:
        """Wait until the daemons are ready; not at all for one that has ended."""

        def ready() -> bool:
            for daemon in daemons:
                if not daemon.is_running:
                    raise LabError(f"{daemon.name} has ended at its start\n{self.report()}")
            return condition()

        self.wait_until(ready, f"{daemons[0].name} ready", _START_TIMEOUT_S)

    def _check_installation(self, installation: Path | None) -> None:
        """A virtual environment in a folder that users cannot enter would fail their jobs in puzzling ways."""
        if installation is not None:
            result = self.head.run([f"{HOME}/bin/python3", "-I", "-S", "-c", ""], "ada")
            if result.returncode != 0:
                raise LabError(
                    f"users of the nodes cannot run {installation}/bin/python3: {result.stderr.strip()}; "
                    f"open the folders above it and its interpreter to others (chmod o+x)"
                )

    def _queue(self, job: Job) -> str:
        """The job's line in the queue; empty when it has ended."""
        result = self.head.run(["squeue", "--noheader", f"--jobs={job.id}", "--format=%T %r %N"])
        if result.returncode != 0 and "Invalid job id" not in result.stderr:
            return f"squeue: {result.stderr.strip()}"
        return result.stdout.strip()

    def _slurm(self, *command: str) -> str:
        result = self.head.run(command)
        if result.returncode != 0:
            raise LabError(f"{' '.join(command)}: {result.stderr.strip()}\n{self.report()}")
        return result.stdout


def _product_binds(installation: Path | None, system: Path) -> list[Bind]:
    """What the nodes need to run the product: its installation, where scripts in it look for it, and interpreters."""
    binds = [Bind(str(CHECKOUT), str(CHECKOUT), read_only=True)]
    interpreters = [Path(os.path.realpath(sys.executable))]
    if installation is not None:
        installation = installation.resolve()
        binds += [Bind(str(installation), target, read_only=True) for target in (str(installation), HOME)]
        interpreters.append(Path(os.path.realpath(installation / "bin/python3")))
    for interpreter in interpreters:
        prefix = interpreter.parent.parent
        if prefix != Path("/usr"):
            binds.append(Bind(str(prefix), str(prefix), read_only=True))
    seen: dict[str, Bind] = {}
    for bind in binds:
        # Whatever lies in the host's shared folders is in place already; but no node may write to the checkout.
        top = Path(bind.target).parts[1]
        if (
            bind.source != bind.target
            or bind.target == str(CHECKOUT)
            or top in set(OWN) - {"tmp"}
            or system != Path("/")
        ):
            seen.setdefault(bind.target, bind)
    return list(seen.values())


def _write(file: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file of a folder that is read by pattern: complete, or not there."""
    new = file.parent.parent / f".{file.name}.new"
    new.write_text(text)
    new.chmod(mode)
    new.replace(file)


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""
