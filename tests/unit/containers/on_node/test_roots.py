from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.containers.on_node.mounts import FileSystem, end_process, is_process
from slurm_fsx_tools.containers.on_node.roots import CleanUp, Record, Root, running_jobs
from slurm_fsx_tools.errors import SlurmFsxError

DAY = 86400.0
NOW = 1_800_000_000.0


class Node:
    """A node's folders, with roots as the SPANK plugin leaves them."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.run = folder / "run"
        self.data = folder / "data"
        for path in (*(self.state / name for name in ("roots", "locks", "trash")), self.run / "jobs", self.data):
            path.mkdir(parents=True)

    def root(
        self, name: str, scope: str = "job", jobs: tuple[str, ...] = (), age_days: float = 0, size: int = 0
    ) -> Root:
        root = Root(str(self.state), f"{os.geteuid()}.{name}")
        for part in ("jobs", "image", "upper", "work"):
            Path(root.folder, part).mkdir(parents=True)
        Path(root.folder, "state").write_text(
            f"# slurm-fsx root 1\nuid={os.geteuid()}\ngid={os.getegid()}\nscope={scope}\ntarget={self.data}/{name}\n"
            f"image=/fsx/a b=c.sqsh\nidentity=1:2:3\nserver=0\nserver_start=0\nlater=1\n"
        )
        Path(root.folder, "upper/file").write_bytes(bytes(size))
        for job in jobs:
            Path(root.folder, "jobs", job).touch()
        used = NOW - age_days * DAY
        os.utime(Path(root.folder, "jobs"), (used, used))
        return root

    def clean_up(self, dry_run: bool = False, **values: object) -> list[str]:
        said: list[str] = []
        config = {f"containers.{key}": value for key, value in values.items()}
        config |= {"containers.state_dir": str(self.state), "runtime_dir": str(self.run)}
        act = CleanUp(Config(config), said.append, dry_run, NOW)
        act.run()
        assert act.failures == []
        return said


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def roots(node: Node) -> list[str]:
    return sorted(name.partition(".")[2] for name in os.listdir(node.state / "roots"))


def test_both_languages_read_the_same(node: Node, core_tool: Path) -> None:
    root = node.root("pyxis_a", "global")
    record = root.record()
    assert record is not None
    done = subprocess.run(
        [core_tool, "root", root.state_dir, str(os.geteuid()), "pyxis_a"], capture_output=True, text=True, check=True
    )
    assert Record.parse(f"# slurm-fsx root 1\n{done.stdout}") == record
    assert (record.image, record.keeps_writes) == ("/fsx/a b=c.sqsh", True)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("# slurm-fsx root 2\nuid=1\n", id="version"),
        pytest.param("# slurm-fsx root 1\nuid=1\n", id="lacking"),
    ],
)
def test_a_state_that_does_not_read_is_an_error(text: str) -> None:
    with pytest.raises(SlurmFsxError, match="does not read"):
        Record.parse(text)


def test_what_belongs_to_no_running_job_is_removed(node: Node) -> None:
    node.root("pyxis_7_a", jobs=("4000000007",))
    node.root("pyxis_8_a", jobs=("4000000008",))
    (node.data / "pyxis_7_a").mkdir()
    (node.run / "jobs/4000000008.env").touch()
    before = roots(node)
    assert "pyxis_7_a of user" in " ".join(node.clean_up(dry_run=True))
    assert roots(node) == before
    assert node.clean_up()
    assert roots(node) == ["pyxis_8_a"]
    assert os.listdir(node.state / "trash") == []
    assert os.listdir(node.state / "locks") == [f"{os.geteuid()}.pyxis_8_a"]
    assert not node.clean_up()


@pytest.mark.usefixtures("needs_root")
def test_the_empty_directory_that_pyxis_would_take_for_a_container_goes_too(node: Node) -> None:
    for name in ("pyxis_7_a", "pyxis_9_unpacked"):
        node.root(name, jobs=("4000000007",))
        (node.data / name).mkdir()
    (node.data / "pyxis_9_unpacked/file").touch()
    node.clean_up()
    assert os.listdir(node.data) == ["pyxis_9_unpacked"]


def test_a_root_without_a_readable_state_is_removed(node: Node) -> None:
    Path(node.root("pyxis_a", "global").folder, "state").write_text("half")
    node.clean_up()
    assert roots(node) == []


def test_writes_of_a_global_container_are_kept_for_their_days(node: Node) -> None:
    node.root("old", "global", age_days=8)
    node.root("new", "global", age_days=6)
    assert node.clean_up(keep_writes=7.0)[0].startswith("writes of old of user")
    assert roots(node) == ["new"]


def test_above_the_limit_the_writes_used_longest_ago_are_removed(node: Node) -> None:
    for number in range(4):
        node.root(f"c{number}", "global", age_days=number, size=1 << 20)
    node.clean_up(writes_limit=5 << 19)
    assert roots(node) == ["c0", "c1"]


def test_a_root_that_is_being_prepared_is_left_alone_and_told(node: Node) -> None:
    root = node.root("pyxis_7_a", jobs=("4000000007",))
    with root.lock(), pytest.raises(SlurmFsxError, match="prepared all the while"), root.lock(0.05):
        pass
    assert roots(node) == ["pyxis_7_a"]


@pytest.mark.usefixtures("needs_root")
def test_jobs_are_known_by_the_prologs_file_and_by_their_steps(tmp_path: Path) -> None:
    (tmp_path / "run/jobs").mkdir(parents=True)
    (tmp_path / "run/jobs/12.env").touch()
    (tmp_path / "run/jobs/12.log").touch()
    for pid, title in {
        "17": b"slurmstepd: [13.batch]\0",
        "18": b"slurmstepd\0",
        "self": b"slurmstepd: [14.0]\0",
    }.items():
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "cmdline").write_bytes(title)
    assert running_jobs(str(tmp_path / "run"), str(tmp_path / "proc")) == {"12", "13"}


@pytest.mark.usefixtures("needs_root")
def test_a_users_process_that_calls_itself_a_step_is_none(tmp_path: Path) -> None:
    for pid, owner in {"17": 0, "18": 2001}.items():
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "cmdline").write_bytes(f"slurmstepd: [{pid}.0]\0".encode())
        os.chown(tmp_path / "proc" / pid, owner, owner)
    assert running_jobs(str(tmp_path / "run"), str(tmp_path / "proc")) == {"17"}


def test_what_is_in_the_trash_is_told_by_its_whole_name_where_it_has_no_time(node: Node) -> None:
    (node.state / "trash/left").mkdir()
    (node.state / "trash/2001.pyxis_7_a.123").mkdir()
    assert sorted(node.clean_up()) == ["what 2001.pyxis_7_a has written", "what left has written"]


@pytest.mark.usefixtures("needs_root")
@pytest.mark.parametrize("is_ours", [True, False], ids=["the-mount", "a-link-to-another"])
def test_a_mount_goes_even_where_its_user_has_closed_the_way_to_it(tmp_path: Path, is_ours: bool) -> None:
    code = (
        "import os, sys\nfrom slurm_fsx_tools.containers.on_node.mounts import FileSystem, unmount\n"
        "_, point, other, mode, _ = sys.argv\nmount = FileSystem.at(point)\n"
        "if mode == 'other':\n    mount = mount._replace(device=os.stat(other).st_dev)\n"
        "try:\n    unmount(mount, 2001, 2001, 5.0)\nexcept OSError as error:\n    print(error.strerror)\n"
        "print(FileSystem.at(point) is None)\n"
    )
    script = 'for each in "$1" "$2"; do mount -t tmpfs none "$each"; done; chmod 0 "${1%/*}"; exec "$0" -c "$4" "$@"'
    point, other = tmp_path / "data/c", tmp_path / "other"
    for path in (point, other):
        path.mkdir(parents=True)
    arguments = [sys.executable, str(point), str(other), "same" if is_ours else "other", code]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"cannot mount here: {done.stderr}")
    assert done.stdout.splitlines() == (["True"] if is_ours else ["Stale file handle", "False"]), done.stderr


def test_a_process_is_known_by_its_start() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        start = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
        assert is_process(process.pid, start)
        assert not is_process(process.pid, start + 1)
        end_process(process.pid, start + 1)
        assert process.poll() is None
        end_process(process.pid, start)
    finally:
        process.communicate(b"")
    assert process.returncode != 0
    assert not is_process(process.pid, start)


def test_mounts_are_found_by_their_point() -> None:
    proc = FileSystem.at("/proc")
    assert proc is not None
    assert proc.kind == "proc"
    assert proc.device == os.stat("/proc").st_dev
    assert FileSystem.at("/proc/none") is None
