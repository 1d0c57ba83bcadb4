"""Head and compute nodes below roots of their own: what is made, for whom, and that all of it goes again."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.errors import SharedFsUnavailable, SlurmFsxError
from slurm_fsx_tools.provision.compute_node import compute_node_steps, wait_until_mounted
from slurm_fsx_tools.provision.head_node import NotMounted, check_mounted, head_node_steps
from slurm_fsx_tools.provision.installation import SHELLS, Installation
from slurm_fsx_tools.provision.mounts import mounted_for
from slurm_fsx_tools.provision.steps import Outcome, Record, apply, plan
from slurm_fsx_tools.shared_fs import SharedFs

from .conftest import Machine

CONFIG = Config()
FOR_USERS = {"datasets", "checkpoints", "results", "logs/training"}
FOR_ROOT = {
    *("containers", "containers/runtime", "containers/cache", "containers/data", "scripts", "config", "logs"),
    *("logs/container-downloads", "logs/slurm", "nccl", "monitoring", "monitoring/targets"),
}


def set_up_head(machine: Machine, installation: Installation, cluster: str | None = None) -> Outcome:
    machine.path("/fsx").mkdir(exist_ok=True)
    return machine.apply(head_node_steps(CONFIG, installation, machine.conf, cluster, None, "auto"), "head")


def set_up_node(machine: Machine, installation: Installation, fsx: SharedFs, problem: str = "") -> Outcome:
    record = Record.read("node", str(machine.root))
    config = Config({"fsx.root": fsx.root})
    return machine.apply(compute_node_steps(config, installation, machine.conf, fsx, record, "auto", problem), "node")


@pytest.fixture
def fsx(tmp_path: Path) -> SharedFs:
    (tmp_path / "shared/config").mkdir(parents=True)
    (tmp_path / "shared/config/config.yaml").write_text("cluster: {name: blue}\n")
    return SharedFs(str(tmp_path / "shared"), 5.0)


def test_users_can_write_to_their_folders_alone(parallelcluster: Machine, installation: Installation) -> None:
    assert not set_up_head(parallelcluster, installation).failed
    modes = {}
    for path in parallelcluster.path("/fsx").rglob("*"):
        if path.is_dir():
            modes[path.relative_to(parallelcluster.path("/fsx")).as_posix()] = stat.S_IMODE(path.stat().st_mode)
    assert {path for path, mode in modes.items() if mode == 0o1777} == FOR_USERS
    assert {path for path, mode in modes.items() if mode == 0o755} == FOR_ROOT
    assert len(modes) == len(FOR_USERS | FOR_ROOT)


@pytest.mark.parametrize("path", SHELLS)
def test_man_and_shells_find_what_is_theirs_through_upgrades(
    path: str, debian: Machine, installation: Installation, checkout: Path
) -> None:
    set_up_head(debian, installation)
    target = os.readlink(debian.path(path))
    assert target == f"{installation.share}/{SHELLS[path]}"
    assert (checkout / "share" / SHELLS[path]).is_file()


def test_a_head_node_gets_scripts_and_the_list_of_images_and_gives_them_back(
    parallelcluster: Machine, installation: Installation
) -> None:
    parallelcluster.path("/fsx").mkdir()
    before = parallelcluster.tree()
    outcome = set_up_head(parallelcluster, installation)
    assert not outcome.failed, outcome.of("failed")
    assert os.access(parallelcluster.path("/fsx/scripts/setup-headnode.sh"), os.X_OK)
    assert "docker://nvcr.io/nvidia/pytorch" in parallelcluster.read("/fsx/config/containers.txt")
    assert parallelcluster.read("/etc/slurm-fsx/config.yaml") == parallelcluster.read("/fsx/config/config.yaml")
    cluster = parallelcluster.read("/fsx/config/config.yaml")
    assert not set_up_head(parallelcluster, installation, cluster).of("changed")
    parallelcluster.write("/fsx/datasets/precious", "data")
    kept = parallelcluster.undo("head").of("kept")
    assert [event.step for event in kept] == ["folder /fsx/datasets"]
    after = parallelcluster.tree()
    assert {path for path in after if path not in before} == {"fsx/datasets", "fsx/datasets/precious"}
    assert {path: after[path] for path in before} == before


def test_a_list_of_images_that_an_admin_has_edited_stays(parallelcluster: Machine, installation: Installation) -> None:
    set_up_head(parallelcluster, installation)
    parallelcluster.write("/fsx/config/containers.txt", "docker://nvcr.io/nvidia/nemo:25.01\n")
    outcome = set_up_head(parallelcluster, installation, parallelcluster.read("/fsx/config/config.yaml"))
    assert not outcome.of("kept")
    assert parallelcluster.read("/fsx/config/containers.txt") == "docker://nvcr.io/nvidia/nemo:25.01\n"


@pytest.mark.parametrize("name", ["parallelcluster", "debian"])
def test_a_dry_run_on_each_kind_of_machine_changes_nothing(
    name: str, request: pytest.FixtureRequest, installation: Installation, fsx: SharedFs
) -> None:
    machine: Machine = request.getfixturevalue(name)
    before = machine.tree()
    record = Record.read("head", str(machine.root))
    changes = plan(head_node_steps(CONFIG, installation, machine.conf, None, None, "auto"), record)
    changes += plan(compute_node_steps(CONFIG, installation, machine.conf, fsx, record, "auto"), record)
    assert {change.verdict for change in changes} <= {"change", "skipped"}
    assert len(changes) > 30
    assert machine.tree() == before


def test_a_node_gets_the_clusters_configuration_enroots_fragments_and_units(
    parallelcluster: Machine, installation: Installation, fsx: SharedFs
) -> None:
    before = parallelcluster.tree()
    outcome = set_up_node(parallelcluster, installation, fsx)
    assert not outcome.failed, outcome.of("failed")
    assert parallelcluster.read("/etc/slurm-fsx/config.yaml") == "cluster: {name: blue}\n"
    assert f"{fsx.root}/nccl {fsx.root}/nccl none" in parallelcluster.read(
        "/etc/enroot/mounts.d/50-slurm-fsx-nccl.fstab"
    )
    assert parallelcluster.path("/etc/enroot/hooks.d/60-slurm-fsx-nccl.sh").stat().st_mode & 0o777 == 0o755
    # What runs containers keeps its paths: on a shared file system they end in lock time-outs.
    assert parallelcluster.read("/etc/enroot/enroot.conf") == "ENROOT_RUNTIME_PATH /run/enroot\n"
    assert parallelcluster.path("/etc/systemd/system/slurm-fsx-cleanup.timer").exists()
    assert not set_up_node(parallelcluster, installation, fsx).of("changed")
    parallelcluster.undo("node")
    assert parallelcluster.tree() == before


def test_a_node_without_the_shared_file_system_gets_the_rest_and_keeps_its_configuration(
    parallelcluster: Machine, installation: Installation, fsx: SharedFs
) -> None:
    set_up_node(parallelcluster, installation, fsx)
    outcome = set_up_node(parallelcluster, installation, fsx, problem="nothing is mounted at /fsx")
    assert not outcome.failed
    assert "nothing is mounted at /fsx" in next(iter(outcome.of("skipped"))).text
    assert parallelcluster.read("/etc/slurm-fsx/config.yaml") == "cluster: {name: blue}\n"
    os.unlink(f"{fsx.root}/config/config.yaml")
    set_up_node(parallelcluster, installation, fsx)
    assert not parallelcluster.path("/etc/slurm-fsx/config.yaml").exists()


def test_lines_of_slurm_stay_while_its_configuration_cannot_be_seen(
    parallelcluster: Machine, installation: Installation, fsx: SharedFs
) -> None:
    set_up_node(parallelcluster, installation, fsx)
    line = parallelcluster.path("/opt/slurm/etc/plugstack.conf.d/zz-slurm-fsx-after.conf")
    record = Record.read("node", str(parallelcluster.root))
    config = Config({"fsx.root": fsx.root})
    outcome = parallelcluster.apply(compute_node_steps(config, installation, None, fsx, record, "auto"), "node")
    assert outcome.of("skipped")
    assert line.exists()


def test_a_head_node_without_a_mount_is_refused_with_its_state(tmp_path: Path) -> None:
    folder = str(tmp_path)
    with pytest.raises(NotMounted, match="it is an ordinary folder"):
        check_mounted(folder, SharedFs(folder, 1.0))
    with pytest.raises(NotMounted, match="it is missing"):
        check_mounted(f"{folder}/away", SharedFs(folder, 1.0))


def test_a_mount_that_does_not_answer_is_said_to(tmp_path: Path) -> None:
    class Hung(SharedFs):
        """The one part that no machine has at will: a file server that is away."""

        def look(self, function: object) -> object:
            raise SharedFsUnavailable("/proc did not answer within 2 s", hint="see whether its file server is up")

    check_mounted("/proc", SharedFs("/proc", 5.0))
    with pytest.raises(NotMounted, match=r"proc \(proc\) is mounted at /proc, but does not answer"):
        check_mounted("/proc", Hung("/proc", 1.0))


def test_a_mount_that_does_not_answer_is_refused_whether_or_not_it_must_be_one(tmp_path: Path) -> None:
    class Hung(SharedFs):
        """As above."""

        def look(self, function: object) -> object:
            raise SharedFsUnavailable("/proc did not answer within 2 s", hint="see whether its file server is up")

    with pytest.raises(NotMounted, match="does not answer"):
        check_mounted("/proc", Hung("/proc", 1.0), allow_unmounted=True)
    folder = str(tmp_path / "missing")
    check_mounted(folder, SharedFs(folder, 5.0), allow_unmounted=True)


def test_a_shared_file_system_that_everybody_could_rearrange_is_refused_with_what_to_do(
    tmp_path: Path, needs_root: None
) -> None:
    folder = tmp_path / "fsx"
    folder.mkdir()
    fsx = SharedFs(str(folder), 5.0)
    folder.chmod(0o777)
    with pytest.raises(SlurmFsxError, match=r"can be written by everybody; run: chmod \+t"):
        check_mounted(str(folder), fsx, allow_unmounted=True)
    folder.chmod(0o1777)
    check_mounted(str(folder), fsx, allow_unmounted=True)
    os.chown(folder, 12345, 0)
    with pytest.raises(SlurmFsxError, match="belongs to user 12345"):
        check_mounted(str(folder), fsx, allow_unmounted=True)


def test_what_a_user_has_put_in_place_of_a_folder_is_kept_and_never_followed(
    parallelcluster: Machine, installation: Installation, tmp_path: Path, needs_root: None
) -> None:
    root = parallelcluster.path("/fsx")
    root.mkdir()
    root.chmod(0o1777)
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    (root / "datasets").symlink_to(victim)
    (root / "scripts").mkdir()
    os.chown(root / "scripts", 12345, 12345)
    (root / "results").write_text("")
    for force in (False, True):
        steps = head_node_steps(CONFIG, installation, parallelcluster.conf, None, None, "auto")
        with Record.open("head", str(parallelcluster.root)) as record:
            outcome = apply(steps, record, force=force)
        assert outcome.failed
        assert stat.S_IMODE(victim.stat().st_mode) == 0o700
        assert list(victim.iterdir()) == []
        assert (root / "datasets").is_symlink()
        assert force or list((root / "scripts").iterdir()) == []
        assert stat.S_IMODE((root / "checkpoints").stat().st_mode) == 0o1777
    parallelcluster.undo("head")
    assert stat.S_IMODE(victim.stat().st_mode) == 0o700


def test_a_folder_of_a_shared_file_system_and_a_link_to_one_count_as_mounted(tmp_path: Path) -> None:
    assert mounted_for("/proc/sys/kernel") is not None  # of a kind that is not on a local disk
    (tmp_path / "fsx").symlink_to("/proc")
    assert mounted_for(str(tmp_path / "fsx")) is not None
    assert mounted_for(str(tmp_path)) is None


def test_a_mount_that_comes_late_is_waited_for_and_no_longer_than_told(tmp_path: Path) -> None:
    told = []
    fsx = SharedFs(str(tmp_path), 5.0)
    assert wait_until_mounted(str(tmp_path), fsx, 0.05, lambda: told.append(1)) == f"nothing is mounted at {tmp_path}"
    assert wait_until_mounted("/proc", SharedFs("/proc", 5.0), 0.0, lambda: told.append(1)) == ""
    assert told == [1]


@pytest.mark.parametrize(
    "command", [["head", "--allow-unmounted", "--no-prometheus"], ["node", "--wait", "0"], ["uninstall"]]
)
def test_who_is_not_root_is_told_so(command: list[str], needs_root: None, checkout: Path) -> None:
    home = checkout / ".venv"
    code = "import os; os.setuid(12345); from slurm_fsx_tools.cli.main import main; main()"
    if not (home / "share/slurm-fsx").is_dir():
        pytest.skip("needs the installation that make test has")
    done = subprocess.run(
        [str(home / "bin/python3"), "-c", code, "setup", *command], capture_output=True, text=True, check=False, cwd="/"
    )
    assert "needs root" in done.stderr or "nothing is set up here" in done.stdout
    assert "Traceback" not in done.stderr


def test_an_installation_without_files_is_an_error_that_says_where_they_should_be() -> None:
    if os.path.isdir(f"{sys.prefix}/share/slurm-fsx"):
        assert Installation.find().share.endswith("share/slurm-fsx")
    else:
        with pytest.raises(SlurmFsxError, match="share/slurm-fsx is missing"):
            Installation.find()
