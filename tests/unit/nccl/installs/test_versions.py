"""Listing, switching and removing versions that were installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_fsx_tools.errors import SlurmUnavailable, UntrustedFile, VersionNotUsable
from slurm_fsx_tools.nccl.versions import (
    activate,
    check_usable,
    clear_removed,
    current_id,
    list_versions,
    remove_version,
)

from .conftest import NCCL_C, Place

SHELLS = [shell for shell in ("sh", "bash", "dash") if shutil.which(shell)]


@pytest.fixture
def two(place: Place) -> tuple[Place, str, str]:
    """Two versions, of which the second is current."""
    assert place.install("--gencode=sm_80").exit_code == 0
    first = current_id(str(place.root))
    assert place.install().exit_code == 0
    return place, first, current_id(str(place.root))


def use_it(place: Place, version_id: str, job: int) -> None:
    """Leave a marker, as a prolog does."""
    (place.root / ".uses" / version_id / str(job)).touch()


def test_a_switch_is_one_step_and_running_jobs_keep_theirs(two) -> None:
    place, first, second = two
    held = os.path.realpath(place.root / "current")
    done = place.run("use", first)
    assert done.exit_code == 0
    assert f"{first} is current; before: {second}" in done.stderr
    assert place.current == f"versions/{first}"
    assert held == str(place.root / "versions" / second)
    assert os.path.exists(f"{held}/lib/libnccl.so.2")


def test_a_switch_never_leaves_a_moment_without_a_version(two) -> None:
    place, first, second = two
    watch = (
        "import os, sys\n"
        "print('ready', flush=True)\n"
        "while not os.path.exists(sys.argv[2]): os.stat(sys.argv[1])\n"
        "print('always there')\n"
    )
    end = place.folder / "end"
    command = ["python3", "-c", watch, place.root / "current/manifest.json", end]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "ready\n"
        for _ in range(200):
            activate(str(place.root), first)
            activate(str(place.root), second)
        end.touch()
        assert watcher.stdout.read() == "always there\n"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(lambda folder: (folder / "lib/libnccl.so.2.28.7").unlink(), "is missing", id="no-library"),
        pytest.param(
            lambda folder: (folder / "lib/libnccl.so.2.28.7").write_bytes(b"none"),
            "does not say its version",
            id="no-elf",
        ),
        pytest.param(lambda folder: (folder / "manifest.json").write_text("{}"), "is no manifest", id="manifest"),
        pytest.param(lambda folder: (folder / "manifest.json").unlink(), "has no manifest.json", id="no-manifest"),
        pytest.param(lambda folder: (folder / "lib/libnccl-net-ofi.so").unlink(), "no network plugin", id="no-plugin"),
        pytest.param(
            lambda folder: os.chmod(folder / "lib/libnccl.so.2.28.7", 0o666), "can be written by others", id="open"
        ),
    ],
)
def test_a_broken_version_is_refused_unless_forced(two, damage, said: str) -> None:
    place, first, second = two
    damage(place.root / "versions" / first)
    refused = place.run("use", first)
    assert refused.exit_code == 1
    assert said in str(refused.exception)
    assert place.current == f"versions/{second}"
    assert place.run("use", "--force", first).exit_code == 0
    assert place.current == f"versions/{first}"


def test_a_library_of_another_version_is_broken(two) -> None:
    place, first, _ = two
    source = place.folder / "other.c"
    source.write_text(NCCL_C.replace("NUMBER", "22703"))
    library = place.root / f"versions/{first}/lib/libnccl.so.2.28.7"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    with pytest.raises(VersionNotUsable, match=r"is of version 2\.27\.3, not 2\.28\.7-1"):
        check_usable(str(place.root), first)


@pytest.mark.parametrize("version_id", ["none", "../../etc", "a/b", "", "-x", ".hidden"])
def test_what_is_no_version_cannot_be_used_even_by_force(two, version_id: str) -> None:
    place, _, second = two
    assert place.run("use", "--force", "--", version_id).exit_code != 0
    assert place.current == f"versions/{second}"


def test_a_planted_version_is_not_used(two, tmp_path: Path) -> None:
    place, _, _ = two
    (place.root / "versions/planted").symlink_to(tmp_path)
    with pytest.raises(UntrustedFile):
        activate(str(place.root), "planted")


def test_the_list_says_which_is_current_which_are_used_and_what_is_wrong(two) -> None:
    place, first, second = two
    use_it(place, second, 7)
    (place.root / f"versions/{first}/lib/libnccl.so.2").unlink()
    (place.control / "fail-tests").touch()
    place.install("--gencode=sm_89")
    rows = json.loads(place.run("list", "--json").stdout)
    assert [(row["id"], row.get("current"), row.get("jobs")) for row in rows] == [
        (second, True, [7]),
        (first, False, []),
        (f"{first}_3", None, None),
    ]
    assert "is missing" in rows[1]["problem"]
    assert rows[2]["unfinished"]
    text = place.run("list").stdout.splitlines()
    assert text[1].startswith(f"*  {second}")
    assert "unfinished" in text[3]


def test_a_version_is_removed_when_no_job_uses_it(two) -> None:
    place, first, _ = two
    use_it(place, first, 7)
    with pytest.raises(VersionNotUsable, match="in use by job 7"):
        remove_version(str(place.root), first, {"6"})
    assert (place.root / "versions" / first / "manifest.json").exists()
    remove_version(str(place.root), first, {"6", "7"})
    assert not (place.root / "versions" / first).exists()
    assert not (place.root / ".uses" / first).exists()
    assert not list(place.root.glob(".staging/.removed*"))


def test_the_current_version_is_never_removed(two) -> None:
    place, _, second = two
    done = place.run("remove", "--force", second)
    assert done.exit_code == 1
    assert "is current" in done.stderr
    assert (place.root / "current/manifest.json").exists()


def test_without_slurm_nothing_is_removed_unless_forced(two, monkeypatch: pytest.MonkeyPatch) -> None:
    place, first, second = two
    use_it(place, first, 7)
    monkeypatch.setenv("PATH", str(place.folder))
    assert isinstance(place.run("remove", first).exception, SlurmUnavailable)
    assert [version.id for version in list_versions(str(place.root))] == [second, first]
    assert place.run("remove", "--force", first).exit_code == 0
    assert [version.id for version in list_versions(str(place.root))] == [second]


def test_what_an_install_left_unfinished_is_removed(place: Place) -> None:
    (place.control / "fail-tests").touch()
    place.install()
    (left,) = (path.parent for path in place.root.glob(".staging/*/request.json"))
    assert place.run("remove", "--force", left.name).exit_code == 0
    assert not left.exists()


def source(place: Place, shell: str, before: str = "", after: str = "") -> dict[str, str]:
    """Give the environment of a shell that has sourced the setup script."""
    script = f"set -eu\n{before}\n. {place.root}/setup-nccl-env.sh\n{after}\nenv -0"
    done = subprocess.run([shell, "-c", script], capture_output=True, env={"PATH": os.environ["PATH"]}, check=True)
    assert done.stderr == b""
    return dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if "=" in entry)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_setup_script_follows_current(two, shell: str) -> None:
    place, first, second = two
    folder = f"{place.root}/versions/{second}"
    environment = source(place, shell)
    assert environment["LD_LIBRARY_PATH"] == f"{folder}/lib"
    assert environment["PATH"].startswith(f"{folder}/bin:")
    assert (environment["NCCL_HOME"], environment["NCCL_VERSION"]) == (folder, "v2.28.7-1")
    activate(str(place.root), first)
    assert source(place, shell)["NCCL_HOME"] == f"{place.root}/versions/{first}"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_setup_script_may_be_sourced_again(two, shell: str) -> None:
    place, first, second = two
    script = f". {place.root}/setup-nccl-env.sh"
    again = source(place, shell, "export LD_LIBRARY_PATH=/a:/b", script)
    assert again["LD_LIBRARY_PATH"] == f"{place.root}/versions/{second}/lib:/a:/b"
    assert again["PATH"].count("/versions/") == 1
    switched = source(place, shell, after=f"ln -sfn versions/{first} {place.root}/current\n{script}")
    assert switched["LD_LIBRARY_PATH"] == f"{place.root}/versions/{first}/lib"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_setup_script_keeps_what_the_user_has_set(two, shell: str) -> None:
    place, _, _ = two
    assert source(place, shell)["FI_PROVIDER"] == "efa"
    assert source(place, shell, "export FI_PROVIDER=tcp")["FI_PROVIDER"] == "tcp"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_setup_script_does_nothing_where_there_is_no_version(two, shell: str) -> None:
    place, _, _ = two
    (place.root / "current").unlink()
    environment = source(place, shell)
    assert "LD_LIBRARY_PATH" not in environment
    assert "NCCL_HOME" not in environment


def test_the_setup_script_finds_a_plugin_that_is_elsewhere(place: Place) -> None:
    folder = place.folder / "installer/lib"
    folder.mkdir(parents=True)
    plugin = place.sources / "ofi/plugin.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "libnccl-net-ofi.so", plugin], check=True)
    assert place.install(f"--plugin-folder={folder}", "--ofi=efa").exit_code == 0
    version = os.path.realpath(place.root / "current")
    assert source(place, "sh")["LD_LIBRARY_PATH"] == f"{version}/lib:{folder}"


def test_shellcheck_has_nothing_against_the_setup_script(two) -> None:
    place, _, _ = two
    if not shutil.which("shellcheck"):
        pytest.skip("needs shellcheck")
    done = subprocess.run(
        ["shellcheck", "--shell=sh", place.root / "setup-nccl-env.sh"], capture_output=True, text=True
    )
    assert done.stdout == ""


KILLED = """
import os, sys
from slurm_fsx_tools.nccl import versions
looks = []
def look(*_arguments):
    looks.append(1)
    if len(looks) == 2:
        os.kill(os.getpid(), 9)
versions._check_unused = look
def end(*_arguments):
    os.kill(os.getpid(), 9)
if sys.argv[3] == "deleting":
    versions._check_unused = lambda *_arguments: None
    versions.remove_tree = end
versions.remove_version(sys.argv[1], sys.argv[2], [])
"""


@pytest.mark.parametrize(("when", "stays"), [("looking", True), ("deleting", False)])
def test_a_killed_removal_is_undone_while_jobs_are_known_and_ended_otherwise(two, when: str, stays: bool) -> None:
    place, first, _ = two
    if when == "looking":
        use_it(place, first, 7)
    done = subprocess.run([sys.executable, "-c", KILLED, place.root, first, when], check=False)
    assert done.returncode == -9
    assert not (place.root / "versions" / first).exists()
    clear_removed(str(place.root))
    assert (place.root / "versions" / first / "lib/libnccl.so.2").exists() == stays
    assert [path for path in (place.root / ".staging").iterdir() if path.name.startswith(".removed-")] == []
