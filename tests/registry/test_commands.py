"""``slurm-fsx containers import|sync|status`` against a real registry."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.registry import FaultyProxy
from slurm_fsx_tools.containers.index import is_fresh, read_index
from slurm_fsx_tools.containers.records import read_record

if TYPE_CHECKING:
    from .conftest import Importing, Lab

pytestmark = pytest.mark.usefixtures("needs_root")


def test_sync_brings_what_it_can_and_names_line_and_reason_of_the_rest(
    importing: Importing, lab: Lab, tmp_path: Path
) -> None:
    listed = tmp_path / "containers.txt"
    host = lab.registry.host
    listed.write_text(
        f"# ours\n\ndocker://{host}/lab/small:1  # good\nNot An Image\n{host}/lab/none:1\n{host}/lab/multi:1\n"
    )
    done = importing.run("sync", "--insecure-http", "--with", "skopeo", str(listed))
    assert done.returncode == 3
    assert f"{listed}:4: " in done.stderr
    assert f"slurm-fsx: {host}/lab/none:1: {host} has no lab/none:1: 404" in done.stderr
    assert "slurm-fsx: 2 of 4 images are there, 2 of them new; log: " in done.stderr
    assert done.stdout == ""
    assert len(importing.images()) == 2
    again = importing.run("sync", "--insecure-http", "--with", "skopeo", str(listed))
    assert "0 of them new" in again.stderr


def test_what_came_is_found_by_submissions_at_once(importing: Importing, lab: Lab) -> None:
    assert importing.run("import", "--insecure-http", f"{lab.registry.host}/lab/small:1").returncode == 0
    index = read_index(importing.store.index_file)
    assert index.look_up("small") == str(importing.path(f"{lab.registry.host}/lab/small:1"))
    assert importing.run("resolve", "small").stdout.strip() == index.look_up("small")
    assert is_fresh(index, importing.store.folder, index.policy)


def test_where_none_comes_the_exit_code_says_so(importing: Importing, lab: Lab) -> None:
    done = importing.run("import", "--insecure-http", f"{lab.registry.host}/lab/none:1")
    assert done.returncode == 1
    assert "0 of 1 images are there" in done.stderr


def test_without_a_file_the_sites_list_counts(importing: Importing, lab: Lab) -> None:
    listed = importing.fsx / "config/containers.txt"
    listed.parent.mkdir()
    listed.write_text(f"{lab.registry.host}/lab/small:1\n")
    assert importing.run("sync", "--insecure-http", "--with", "skopeo").returncode == 0
    listed.chmod(0o666)
    assert "can be written by others than its owner" in importing.run("sync").stderr


def test_a_dry_run_tells_digest_size_and_what_would_be_done(importing: Importing, lab: Lab) -> None:
    uri = f"{lab.registry.host}/lab/small:1"
    done = importing.run("import", "--dry-run", "--insecure-http", uri)
    assert done.returncode == 0
    row = done.stdout.splitlines()[1].split()
    assert row == [uri, "import", "4", "MiB", lab.digests["small"]]
    assert os.listdir(importing.store.folder) == []


def test_logs_tell_all_and_of_each_image(importing: Importing, lab: Lab) -> None:
    uri = f"{lab.registry.host}/lab/small:1"
    importing.run("import", "--insecure-http", "--with", "skopeo", uri)
    logs = importing.fsx / "logs"
    main = (logs / "ngc-download.log").read_text()
    file = importing.path(uri).name
    assert [line.split("] ")[1] for line in main.splitlines()] == [
        "begun: 1 images, 1 at a time",
        *(f"{file}: {phase}" for phase in ["checking", "downloading", "unpacking", "building", "verifying", "done"]),
        "ended with 0: 1 of 1 images are there, 1 of them new",
    ]
    image = (logs / "container-downloads" / f"{file}.log").read_text()
    assert "downloading: Copying blob" in image
    assert (logs / "container-downloads").stat().st_mode & 0o7777 == 0o755


def test_a_link_in_place_of_a_log_is_not_written_through(importing: Importing, lab: Lab, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (importing.fsx / "logs").mkdir()
    (importing.fsx / "logs/ngc-download.log").symlink_to(victim)
    done = importing.run("import", "--insecure-http", f"{lab.registry.host}/lab/small:1")
    assert done.returncode == 1
    assert "is a link or no file" in done.stderr
    assert victim.read_text() == "precious"


def test_in_the_background_it_returns_at_once_and_status_tells_the_rest(
    importing: Importing, proxy: FaultyProxy
) -> None:
    def wait(path: str) -> bool:
        if "/blobs/" in path:
            time.sleep(1)
        return False

    proxy.cut_short = wait
    uri = f"{proxy.host}/lab/small:1"
    done = importing.run("import", "--background", "--insecure-http", "--with", "skopeo", uri)
    assert done.returncode == 0
    assert "slurm-fsx containers status --watch" in done.stderr
    assert not importing.path(uri).exists()
    seen = set()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        states = json.loads(importing.run("status", "--json").stdout)
        seen |= {state["phase"] for state in states}
        if states and states[0]["phase"] == "done":
            break
    assert "downloading" in seen
    assert "done" in seen
    assert importing.path(uri).name in importing.run("status", "--watch").stdout
    log = importing.fsx / "logs/ngc-download.log"
    while "ended with 0" not in log.read_text() and time.monotonic() < end:
        time.sleep(0.1)
    assert "ended with 0" in log.read_text()


def test_on_a_terminal_there_are_bars(importing: Importing, lab: Lab) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        importing.command("import", "--insecure-http", "--with", "skopeo", f"{lab.registry.host}/lab/small:1"),
        env={**importing.environment, "TERM": "xterm", "COLUMNS": "120"},
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 1 << 16):
            shown += chunk
    except OSError:  # how a terminal says that nobody has its other end any more
        pass
    os.close(master)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert "━" in text
    assert "downloading" in text
    assert "1 of 1 images are there" in text


def test_only_root_fills_the_catalogue(importing: Importing, lab: Lab) -> None:
    command = ["setpriv", "--reuid", "65534", "--clear-groups", *importing.command("import", "--insecure-http")]
    for path in (importing.config, *importing.config.parents):
        if path.owner() == "root" and not path.stat().st_mode & 0o005:
            path.chmod(0o755)
    done = subprocess.run(
        [*command, f"{lab.registry.host}/lab/small:1"], env=importing.environment, capture_output=True, text=True
    )
    if "No module named" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("this checkout, or its Python, is closed to other users")
    assert done.returncode == 1
    assert "is root's, for every user" in done.stderr
    assert "run this by sudo" in done.stderr


def test_enroot_makes_the_same_of_an_image(importing: Importing, lab: Lab) -> None:
    if "SLURM_FSX_TEST_ENROOT" not in os.environ:
        pytest.skip("needs enroot, which Debian has not: SLURM_FSX_TEST_ENROOT names the folder it is installed in")
    enroot = Path(os.environ["SLURM_FSX_TEST_ENROOT"], "bin")
    uri = f"{lab.registry.host}/lab/docker:1"  # docker-registry gives OCI manifests to nobody who asks as enroot does
    environment = {**importing.environment, "PATH": f"{enroot}:{os.environ['PATH']}"}
    done = subprocess.run(
        importing.command("import", "--insecure-http", "--with", "enroot", uri),
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    record = read_record(importing.store, importing.path(uri).name)
    assert record is not None
    assert (record.importer, record.digest) == ("enroot", lab.digests["docker"])
    said = subprocess.run(
        ["unsquashfs", "-cat", importing.path(uri), "etc/environment"], capture_output=True, text=True, check=True
    )
    assert said.stdout == "PATH=/usr/bin:/bin\nGREETING=hello world\n"
    assert importing.leftovers() == []
