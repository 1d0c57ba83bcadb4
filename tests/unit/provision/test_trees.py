"""Set-up on the file trees of systems that the lab cannot install: what goes where, and that all of it goes again.

The trees are in tests/data/trees. What runs these tests is another system, with other programs: none of that may show.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.calls import STRACE
from slurm_fsx_tools import parallelcluster
from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.monitoring.cloudwatch.agent import CONTROL, CloudWatchAgent
from slurm_fsx_tools.monitoring.cloudwatch.configuration import SYSLOG_FILES, Node, cloudwatch_config
from slurm_fsx_tools.provision.cloudwatch import PATH, cloudwatch_steps
from slurm_fsx_tools.provision.installation import SHELLS, Installation
from slurm_fsx_tools.provision.prometheus import PrometheusMissing
from slurm_fsx_tools.provision.steps import Record, apply, plan, undo

from .trees import PROCESSORS, SYSTEMS, Tree, lay_out

LayOut = Callable[..., Tree]
SLURM = "/opt/slurm/etc"
OF_HEAD = {
    f"{SLURM}/plugstack.conf.d/00-slurm-fsx-before.conf",
    f"{SLURM}/plugstack.conf.d/zz-slurm-fsx-after.conf",
    *(f"/etc/systemd/system/slurm-fsx-{name}.{kind}" for name in ("sync", "tidy") for kind in ("service", "timer")),
    *("/fsx/config/containers.txt", "/fsx/config/config.yaml", "/etc/slurm-fsx/config.yaml"),
}
OF_NODE = {
    *("/etc/profile.d/nccl-shared.sh", "/etc/enroot/mounts.d/50-slurm-fsx-nccl.fstab"),
    *("/etc/enroot/hooks.d/60-slurm-fsx-nccl.sh", "/etc/systemd/system/slurm-fsx-cleanup.timer"),
}
OF_HOOKS = {f"{SLURM}/scripts/{kind}.d/50-slurm-fsx" for kind in ("prolog", "epilog")}
OF_ALL = {*SHELLS, "/usr/local/bin/slurm-fsx"}

each_system = pytest.mark.parametrize("system", SYSTEMS)
each_ubuntu = pytest.mark.parametrize("system", [name for name in SYSTEMS if name.startswith("ubuntu")])
each_processor = pytest.mark.parametrize("processor", PROCESSORS)


@pytest.fixture
def tree(tmp_path: Path, installation: Installation) -> LayOut:
    def make(*parts: str) -> Tree:
        root = tmp_path / "root"
        lay_out(root, *parts)
        return Tree(str(root), installation)

    return make


def snapshot(tree: Tree) -> dict[str, tuple[int, str | bytes]]:
    """Give each path's mode, and what is in it or where it leads."""
    found: dict[str, tuple[int, str | bytes]] = {}
    for path in Path(tree.root).rglob("*"):
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[f"/{path.relative_to(tree.root)}"] = (path.lstat().st_mode, content)
    return found


def written(tree: Tree, what: str) -> set[str]:
    """Give the files and links that a plan would make."""
    steps = [change.step.partition(" ") for change in tree.plan(what) if change.verdict == "change"]
    return {path for kind, _, path in steps if kind in ("file", "link")}


def skipped(tree: Tree, what: str) -> str:
    return "\n".join(change.summary for change in tree.plan(what) if change.verdict == "skipped")


@each_system
@each_processor
def test_a_plan_says_what_goes_where_and_changes_nothing(tree: LayOut, system: str, processor: str) -> None:
    laid_out = tree(system, processor, "head", "pyxis")
    before = snapshot(laid_out)
    head, node, hooks = (written(laid_out, what) for what in ("head", "node", "hooks"))
    assert head >= OF_HEAD | OF_ALL
    assert node >= OF_NODE | OF_ALL
    assert hooks == OF_HOOKS
    assert not any(
        path.startswith(("/lib/", "/usr/lib", "/usr/share/", "/etc/default", "/etc/sysconfig"))
        for path in head | node | hooks
    )  # what packages bring is theirs
    for what in ("head", "node", "hooks"):
        assert {change.verdict for change in laid_out.plan(what)} <= {"change", "skipped"}
    assert snapshot(laid_out) == before


@each_system
@each_processor
def test_all_of_it_is_made_and_nothing_of_it_is_left(tree: LayOut, system: str, processor: str) -> None:
    laid_out = tree(system, processor, "head", "pyxis", "exporter")
    before = snapshot(laid_out)
    for what in ("head", "hooks", "node"):
        with Record.open(what, laid_out.root) as record:
            outcome = apply(laid_out.steps(what), record)
        assert not outcome.failed, outcome.of("failed")
        assert not outcome.of("kept")
        assert not [change for change in laid_out.plan(what) if change.verdict == "change"]
    after = snapshot(laid_out)
    assert {path: after[path] for path in before} == before
    for what in ("node", "hooks", "head"):
        with Record.open(what, laid_out.root) as record:
            assert not undo(record).of("kept")
    assert snapshot(laid_out) == before


def test_processors_make_no_difference(tree: LayOut) -> None:
    plans = []
    for processor in PROCESSORS:
        laid_out = tree("alinux2023", processor, "head", "pyxis", "exporter")
        plans.append([laid_out.plan(what) for what in ("head", "hooks", "node")])
        shutil.rmtree(laid_out.root)
    assert plans[0] == plans[1]


@each_system
def test_where_pyxis_is_switched_off_as_images_have_it_enroot_runs_containers(tree: LayOut, system: str) -> None:
    laid_out = tree(system, "x86_64", "head")
    diffs = [change.diff for change in laid_out.plan("head") if "plugstack" in change.step]
    assert len(diffs) == 1
    assert "spank_slurm_fsx.so runtime=enroot" in diffs[0]
    os.unlink(f"{laid_out.root}/usr/bin/enroot")
    assert "neither enroot nor bubblewrap is installed" in skipped(laid_out, "head")


@each_system
def test_a_compute_node_leaves_what_it_has_from_the_head_node_by_nfs(tree: LayOut, system: str) -> None:
    laid_out = tree(system, "x86_64", "compute", "pyxis")
    assert not [path for path in written(laid_out, "node") if path.startswith("/opt/")]
    said = skipped(laid_out, "node")
    assert f"{SLURM}/plugstack.conf is shared between nodes: it is the head node's" in said
    assert f"{SLURM}/scripts/prolog.d/50-slurm-fsx is shared between nodes" in said


@each_system
def test_what_slurm_conf_lacks_is_said_for_the_clusters_configuration(tree: LayOut, system: str) -> None:
    laid_out = tree(system, "x86_64", "head")
    said = skipped(laid_out, "hooks").splitlines()
    assert "CustomSlurmSettings in the cluster's configuration" in said[0]
    assert [line.strip() for line in said[1:2]] == ["PrologFlags=Alloc"]
    Path(laid_out.root, f"{SLURM[1:]}/pcluster/custom_slurm_settings_include_file_slurm.conf").write_text(
        "PrologFlags=Alloc\n"
    )
    assert skipped(laid_out, "hooks") == ""


def test_slurm_conf_that_was_edited_is_as_before_again(tree: LayOut) -> None:
    laid_out = tree("alinux2023", "x86_64", "head")
    before = snapshot(laid_out)
    with Record.open("hooks", laid_out.root) as record:
        apply(laid_out.steps("hooks", edit=True), record)
    assert b"\nPrologFlags=Alloc\n" in snapshot(laid_out)[f"{SLURM}/slurm.conf"][1]
    with Record.open("hooks", laid_out.root) as record:
        undo(record)
    assert snapshot(laid_out) == before


def test_amazon_linux_has_no_package_of_prometheus_and_says_where_its_programs_go(tree: LayOut) -> None:
    laid_out = tree("alinux2023", "x86_64", "head")
    with pytest.raises(PrometheusMissing, match=r"put the programs prometheus and promtool .* into /usr/local/bin"):
        laid_out.plan_prometheus()
    program = Path(laid_out.root, "usr/local/bin/prometheus")
    program.touch(0o755)
    changes = laid_out.plan_prometheus()
    (unit,) = (change for change in changes if change.step == "file /etc/systemd/system/prometheus.service")
    assert "+ExecStart=/usr/local/bin/prometheus --config.file=" in unit.diff
    assert not [change for change in changes if "packages" in change.step]


@each_ubuntu
def test_ubuntu_has_prometheus_by_apt(tree: LayOut, system: str) -> None:
    if not shutil.which("dpkg-query"):
        pytest.skip("needs dpkg-query")
    changes = {change.step: change for change in tree(system, "x86_64", "head").plan_prometheus()}
    assert changes["packages of Prometheus"].summary == "install prometheus, prometheus-node-exporter"
    drop_in = changes["file /etc/systemd/system/prometheus.service.d/50-slurm-fsx.conf"]
    assert "+ExecStart=/usr/bin/prometheus --config.file=" in drop_in.diff


def test_amazon_linuxs_node_exporter_that_reads_another_folder_is_named(tree: LayOut) -> None:
    said = skipped(tree("alinux2023", "x86_64", "compute", "exporter"), "node")
    assert "node_exporter.service reads /var/lib/node_exporter/textfile_collector, and metrics of jobs are" in said
    assert "set monitoring.textfile_dir to /var/lib/node_exporter/textfile_collector" in said


@each_ubuntu
def test_ubuntus_node_exporter_reads_where_metrics_of_jobs_are_already(tree: LayOut, system: str) -> None:
    laid_out = tree(system, "x86_64", "compute", "exporter")
    assert not [change for change in laid_out.plan("node") if "exporter" in change.step]


@pytest.mark.parametrize(
    ("system", "syslog"),
    [(name, "/var/log/messages" if name == "alinux2023" else "/var/log/syslog") for name in SYSTEMS],
)
@pytest.mark.parametrize("part", ["head", "compute"])
def test_cloudwatchs_agent_sends_the_log_that_rsyslog_writes_here(
    tree: LayOut, system: str, syslog: str, part: str
) -> None:
    root = tree(system, "aarch64", part).root
    values = parallelcluster.read_cfnconfig(f"{root}{parallelcluster.CFNCONFIG}")
    agent = CloudWatchAgent(f"{root}{CONTROL}")
    assert agent.is_installed()
    found = next(path for path in SYSLOG_FILES if os.path.exists(f"{root}{path}"))
    node = Node(part, "ip-10-0-0-1", parallelcluster.cluster_name(values), found, agent.version())
    changes = plan(cloudwatch_steps(cloudwatch_config(node, Config()), agent), Record.read("cloudwatch", root))
    (file,) = (change for change in changes if change.step == f"file {PATH}")
    assert f'"file_path": "{syslog}"' in file.diff
    assert values["cfn_node_type"] == {"head": "HeadNode", "compute": "ComputeFleet"}[part]


RUN = """\
import os, sys
from slurm_fsx_tools.provision.installation import Installation
from slurm_fsx_tools.provision.prometheus import PrometheusMissing
from slurm_fsx_tools.provision.steps import Record, apply, undo
from tests.unit.provision.trees import Tree
root, share = sys.argv[1:]
tree = Tree(root, Installation("/opt/slurm-fsx", share))
def run():
    try:
        tree.plan_prometheus()
    except PrometheusMissing:
        pass
    for what in ("head", "hooks", "node"):
        tree.plan(what)
        with Record.open(what, root) as record:
            apply(tree.steps(what), record)
            undo(record)
run()  # whatever is imported on the way, is now
os.path.exists("/begin-of-run")
run()
"""
CALL = re.compile(r'(?P<pid>\d+) +(?P<name>\w+)\((?:(?:AT_FDCWD|\d+)<(?P<folder>[^>]*)>, )?"(?P<path>[^"]+)"')


def paths_of_python(trace: str) -> set[str]:
    """Give the paths that calls name, but for what programs that are started look at for themselves."""
    calls = [match for match in map(CALL.match, trace.splitlines()) if match]
    programs = {call["pid"] for call in calls if call["name"] == "execve"}
    # A new link's first path is only its text.
    calls = [call for call in calls if call["pid"] not in programs and not call["name"].startswith("symlink")]
    return {os.path.join(call["folder"] or "/", call["path"]) for call in calls}


@each_system
def test_nothing_outside_the_tree_is_looked_at(tree: LayOut, system: str, checkout: Path, tmp_path: Path) -> None:
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    laid_out = tree(system, "x86_64", "head", "pyxis", "exporter")
    trace = tmp_path / "trace"
    share = laid_out.installation.share
    command = [*STRACE, "-o", str(trace), sys.executable, "-c", RUN, laid_out.root, share]
    subprocess.run(command, check=True, cwd=checkout)
    paths = paths_of_python(trace.read_text().partition("/begin-of-run")[2])
    assert len([path for path in paths if path.startswith(f"{laid_out.root}/")]) > 100
    ours = (laid_out.root, share, str(checkout), sys.prefix, f"{sys.base_prefix}/lib/python")
    outside = {path for path in paths if not path.startswith(ours) and not f"{laid_out.root}/".startswith(path)}
    # Programs that look into a tree are the planning machine's own, and so is where a file can be moved from; Python
    # counts its threads before it forks, from 3.12 on.
    assert {os.path.basename(path) for path in outside} <= {"systemctl", "dpkg-query", "null", "mountinfo", "stat"}
