"""Registries that are busy, broken, slow, dishonest or closed, and disks that are full."""

from __future__ import annotations

import email.utils
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.processes import working_in
from lab.registry import FaultyProxy, Image, failing, random_layer, wanting_token
from slurm_fsx_tools.containers.imports.options import Retries
from slurm_fsx_tools.containers.names import ImageName
from slurm_fsx_tools.containers.records import read_record
from slurm_fsx_tools.containers.squashfs import SUPERBLOCK_BYTES, why_unusable
from slurm_fsx_tools.errors import (
    ImageNotInRegistry,
    NoSpace,
    RegistryBusy,
    RegistryDenied,
    RegistryUnavailable,
    RegistryUntrustworthy,
)
from slurm_fsx_tools.programs import ProgramFailed

if TYPE_CHECKING:
    from .conftest import Importing, Lab

PASSWORD = "correct-horse-battery"


def log_in(importing: Importing, proxy: FaultyProxy, password: str = PASSWORD) -> None:
    importing.credentials.write_text(f"machine {proxy.host} login someone password {password}\n")
    importing.credentials.chmod(0o600)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_registry_that_wants_a_rest_gets_it_from_the_whole_cluster(
    importing: Importing, proxy: FaultyProxy, form: str
) -> None:
    wait_s = 2
    value = str(wait_s) if form == "seconds" else email.utils.formatdate(time.time() + wait_s + 1, usegmt=True)
    proxy.faults.append(failing(1, 429, {"Retry-After": value}))
    begun_s = time.monotonic()
    assert importing.bring(f"{proxy.host}/lab/small:1").is_new
    first, second = [when for when, _ in proxy.times][:2]
    assert second - first >= wait_s
    assert time.monotonic() - begun_s >= wait_s
    assert os.path.exists(f"{importing.store.registries}/{proxy.host}.json")
    assert any("was asked too often: 429: trying again in" in progress.text for progress in importing.told)


def test_another_importer_keeps_the_rest_that_was_asked_of_the_first(importing: Importing, proxy: FaultyProxy) -> None:
    proxy.faults.append(failing(1, 429, {"Retry-After": "2"}))
    with pytest.raises(RegistryBusy):
        importing.bring(f"{proxy.host}/lab/small:1", retries=Retries(attempts=1))
    told_s = proxy.times[0][0]
    assert importing.bring(f"{proxy.host}/lab/other:1").is_new
    assert min(when for when, what in proxy.times if "lab/other" in what) - told_s >= 2


def test_errors_that_pass_are_outlasted(importing: Importing, proxy: FaultyProxy) -> None:
    proxy.faults.append(failing(2, 503))
    proxy.faults.append(failing(1, 500, path="/blobs/"))
    assert importing.bring(f"{proxy.host}/lab/small:1").is_new
    assert importing.leftovers() == []


def test_errors_that_stay_are_told_after_some_attempts(importing: Importing, proxy: FaultyProxy) -> None:
    proxy.faults.append(failing(-1, 500))
    with pytest.raises(RegistryUnavailable, match="has trouble: 500"):
        importing.bring(f"{proxy.host}/lab/small:1")
    assert len(proxy.times) == 4
    assert importing.images() == importing.leftovers() == []


def test_what_the_registry_does_not_have_is_not_asked_for_again(importing: Importing, proxy: FaultyProxy) -> None:
    with pytest.raises(ImageNotInRegistry, match="has no lab/none:1: 404"):
        importing.bring(f"{proxy.host}/lab/none:1")
    assert len(proxy.times) == 1


def test_a_layer_that_is_cut_short_is_downloaded_again(importing: Importing, proxy: FaultyProxy, lab: Lab) -> None:
    cuts = [2]

    def cut(path: str) -> bool:
        cuts[0] -= "/blobs/" in path
        return "/blobs/" in path and cuts[0] >= 0

    proxy.cut_short = cut
    uri = f"{proxy.host}/lab/small:1"
    assert importing.bring(uri).digest == lab.digests["small"]
    assert cuts[0] < 0


def test_a_layer_whose_content_is_another_never_becomes_an_image(importing: Importing, proxy: FaultyProxy) -> None:
    proxy.change = lambda path, body: body[:-1] + b"x" if "/blobs/" in path and len(body) > 10_000 else body
    with pytest.raises(ProgramFailed, match=r"[Dd]igest"):
        importing.bring(f"{proxy.host}/lab/small:1")
    assert importing.images() == importing.leftovers() == []


def test_a_manifest_whose_digest_is_another_is_not_believed(importing: Importing, proxy: FaultyProxy) -> None:
    proxy.change = lambda path, body: body[:-1] + b" " if "/manifests/" in path else body
    with pytest.raises(RegistryUntrustworthy, match="whose digest is sha256:"):
        importing.bring(f"{proxy.host}/lab/small:1")
    assert importing.images() == []


def test_a_download_in_which_nothing_moves_is_ended(importing: Importing, proxy: FaultyProxy) -> None:
    proxy.change = lambda path, body: None if "/blobs/" in path and len(body) > 10_000 else body
    with pytest.raises(ProgramFailed, match="neither read nor wrote anything for 2 s"):
        importing.bring(f"{proxy.host}/lab/small:1", stall_s=2, retries=Retries(attempts=1))
    assert importing.images() == importing.leftovers() == []


def test_a_registry_that_is_gone_is_told_in_a_line(importing: Importing, lab: Lab) -> None:
    with pytest.raises(RegistryUnavailable, match="cannot be asked: Connection refused"):
        importing.bring("127.0.0.1:1/lab/small:1", retries=Retries(attempts=1))


def test_plain_http_needs_the_option(importing: Importing, lab: Lab) -> None:
    with pytest.raises(RegistryUnavailable, match="it speaks plain HTTP: allow that by --insecure-http"):
        importing.bring(f"{lab.registry.host}/lab/small:1", insecure_http=False, retries=Retries(attempts=1))


class TestCredentials:
    """A registry that wants a user and a password, by way of a token."""

    def test_with_the_right_password_the_image_comes_and_it_is_seen_nowhere(
        self, importing: Importing, proxy: FaultyProxy
    ) -> None:
        proxy.faults.append(wanting_token(lambda: proxy.host, "someone", PASSWORD))
        log_in(importing, proxy)
        commands: set[bytes] = set()
        ended = threading.Event()

        def watch() -> None:
            while not ended.is_set():
                for entry in os.listdir("/proc"):
                    for file in ("cmdline", "environ"):
                        try:
                            text = Path("/proc", entry, file).read_bytes() if entry.isdigit() else b""
                        except OSError:
                            continue
                        if file == "cmdline" or b"slurm-fsx-import" in text:
                            commands.add(text)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            done = importing.run("import", "--insecure-http", "--with", "skopeo", f"{proxy.host}/lab/small:1")
        finally:
            ended.set()
            watcher.join()
        assert done.returncode == 0, done.stderr
        assert any(b"skopeo" in command for command in commands)
        logs = b"".join(file.read_bytes() for file in (importing.fsx / "logs").rglob("*.log"))
        states = b"".join(file.read_bytes() for file in Path(importing.store.state).rglob("*.json"))
        assert b"downloading" in logs
        for secret in (PASSWORD.encode(), b"a-token-that-nobody-must-see", b"c29tZW9uZTpj"):
            assert not [text for text in (*commands, logs, states) if secret in text]
            assert secret.decode() not in done.stdout + done.stderr
        assert importing.leftovers() == []

    def test_with_a_wrong_password_it_is_refused_at_once(self, importing: Importing, proxy: FaultyProxy) -> None:
        proxy.faults.append(wanting_token(lambda: proxy.host, "someone", PASSWORD))
        log_in(importing, proxy, "wrong")
        with pytest.raises(RegistryDenied, match=r"refuses lab/small:1 as someone: 401 \(wrong password\)") as refused:
            importing.bring(f"{proxy.host}/lab/small:1")
        assert "wrong" not in str(refused.value).replace("wrong password", "")
        assert len(proxy.times) == 2

    def test_without_a_password_it_is_refused_too(self, importing: Importing, proxy: FaultyProxy) -> None:
        proxy.faults.append(wanting_token(lambda: proxy.host, "someone", PASSWORD))
        with pytest.raises(RegistryDenied, match="without a password"):
            importing.bring(f"{proxy.host}/lab/small:1")


@pytest.mark.usefixtures("needs_root")
class TestFullDisks:
    """Small file systems, in a mount namespace of the importing process."""

    def run(
        self, importing: Importing, proxy: FaultyProxy, folder: Path, size: str
    ) -> subprocess.CompletedProcess[str]:
        mount = f'mount -t tmpfs -o size={size} none {folder} && mkdir -p {importing.store.folder} && exec "$@"'
        command = importing.command("import", "--insecure-http", "--with", "skopeo", f"{proxy.host}/lab/large:1")
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", mount, "sh", *command],
            env=importing.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    @pytest.fixture(autouse=True)
    def large(self, lab: Lab) -> None:
        lab.registry.push("lab/large:1", Image([random_layer("data", 8 << 20)]))

    def test_too_little_room_is_told_before_anything_is_downloaded(
        self, importing: Importing, proxy: FaultyProxy
    ) -> None:
        done = self.run(importing, proxy, importing.fsx, "40m")
        assert done.returncode == 1
        assert "needs about 8" in done.stderr
        assert "bytes in" in done.stderr
        assert "are free" in done.stderr
        assert not [what for what in proxy.seen if "/blobs/" in what]

    def test_where_local_disk_has_too_little_room_the_shared_one_is_taken(
        self, importing: Importing, proxy: FaultyProxy
    ) -> None:
        done = self.run(importing, proxy, importing.scratch, "10m")
        assert done.returncode == 0, done.stderr
        assert len(importing.images()) == 1
        assert importing.leftovers() == []

    def test_a_disk_that_fills_up_leaves_no_part_of_an_image(
        self, importing: Importing, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Somebody else takes the room while the image is being built."""
        folder = importing.fsx / "small"
        folder.mkdir()
        child = os.fork()
        if child == 0:
            code = 9
            try:
                unshare_mounts()
                subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120m", "none", str(folder)], check=True)
                code = fill_up_and_import(importing, folder, f"{lab.registry.host}/lab/large:1")
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def unshare_mounts() -> None:
    """Give this process mounts of its own."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x00020000) == 0  # CLONE_NEWNS
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def fill_up_and_import(importing: Importing, folder: Path, uri: str) -> int:
    """Import into a folder that fills up when the download is through; 0 if that ends as it should."""
    from slurm_fsx_tools.containers.imports.importing import import_image
    from slurm_fsx_tools.containers.store import Store

    store = Store(str(folder / "containers"))
    os.mkdir(store.folder)

    def fill(progress: object) -> None:
        if getattr(progress, "phase", "") == "unpacking" and not (folder / "filler").exists():
            with (folder / "filler").open("wb") as filler:
                try:
                    while True:
                        filler.write(bytes(1 << 16))
                        filler.flush()
                except OSError:
                    pass

    try:
        import_image(ImageName.parse(uri), store, importing.options(), fill)
    except (NoSpace, OSError):
        left = [*os.listdir(store.staging), *os.listdir(importing.scratch), *Path(store.folder).glob("*.sqsh")]
        os.unlink(folder / "filler")
        if left:
            return 2
        return 0 if import_image(ImageName.parse(uri), store, importing.options(), lambda _: None).is_new else 3
    return 1


class Watcher:
    """Looks at a folder all the time: each image that is ever seen there must be whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.looks = 0
        self.seen: dict[tuple[int, int], str] = {}
        self.broken: list[str] = []

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.is_set():
            self.looks += 1
            for path in self._folder.glob("*.sqsh"):
                try:
                    with path.open("rb") as file:
                        status = os.fstat(file.fileno())
                        key = (status.st_ino, status.st_mtime_ns)
                        if key in self.seen:
                            continue
                        reason = why_unusable(file.read(SUPERBLOCK_BYTES), status.st_size)
                        listed = subprocess.run(
                            ["unsquashfs", "-l", f"/proc/self/fd/{file.fileno()}"],
                            pass_fds=[file.fileno()],
                            capture_output=True,
                        )
                        self.seen[key] = path.name
                        if reason or listed.returncode:
                            self.broken.append(f"{path.name}: {reason or listed.stderr!r}")
                except FileNotFoundError:
                    continue
            time.sleep(0.005)


def test_kill_minus_nine_at_twenty_moments_leaves_a_catalogue_that_the_next_sync_completes(
    importing: Importing, proxy: FaultyProxy, tmp_path: Path
) -> None:
    images = [f"{proxy.host}/lab/small:1", f"{proxy.host}/lab/multi:1"]
    listed = tmp_path / "containers.txt"
    listed.write_text("\n".join(images))
    arguments = ("sync", "--insecure-http", "--with", "skopeo", "--force", str(listed))
    moments = random.Random(3)  # the moments differ all the same, by the machine's own pace
    killed = 0
    with Watcher(Path(importing.store.folder)) as watcher:
        begun_s = time.monotonic()
        assert importing.run(*arguments).returncode == 0
        takes_s = time.monotonic() - begun_s
        for number in range(20):
            if number % 4 == 0:
                # From nothing, too.
                shutil.rmtree(importing.store.layers)
                for image in images:
                    importing.path(image).unlink(missing_ok=True)
            process = subprocess.Popen(
                importing.command(*arguments), env=importing.environment, stderr=subprocess.DEVNULL
            )
            try:
                process.wait(moments.uniform(0.2, 1.0) * takes_s)
            except subprocess.TimeoutExpired:
                killed += 1
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
        done = importing.run("sync", "--insecure-http", "--with", "skopeo", str(listed))
    assert done.returncode == 0, done.stderr
    assert killed >= 10
    assert watcher.broken == []
    assert len(watcher.seen) >= 2
    assert importing.images() == sorted(importing.path(image).name for image in images)
    for image in images:
        record = read_record(importing.store, importing.path(image).name)
        assert record is not None
        assert record.size_bytes == importing.path(image).stat().st_size
    # One more finds nothing to do, and nothing is left of the dead.
    assert "0 of them new" in importing.run("sync", "--insecure-http", str(listed)).stderr
    assert importing.leftovers() == []
    verified = importing.run("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_what_an_import_started_dies_with_it(importing: Importing, proxy: FaultyProxy) -> None:
    proxy.change = lambda path, body: None if "/blobs/" in path and len(body) > 10_000 else body
    process = subprocess.Popen(
        importing.command("import", "--insecure-http", "--with", "skopeo", f"{proxy.host}/lab/small:1"),
        env=importing.environment,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 20
    while not working_in(importing.scratch) and time.monotonic() < end:
        time.sleep(0.05)
    assert working_in(importing.scratch)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 10
    while working_in(importing.scratch) and time.monotonic() < end:
        time.sleep(0.05)
    assert working_in(importing.scratch) == []


def test_sigterm_ends_an_import_and_tidies_up(importing: Importing, proxy: FaultyProxy) -> None:
    proxy.change = lambda path, body: None if "/blobs/" in path and len(body) > 10_000 else body
    process = subprocess.Popen(
        importing.command("import", "--insecure-http", "--with", "skopeo", f"{proxy.host}/lab/small:1"),
        env=importing.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not working_in(importing.scratch) and process.poll() is None:
        time.sleep(0.05)
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on where this one ended" in said
    assert working_in(importing.scratch) == importing.leftovers() == []


@pytest.mark.usefixtures("needs_root")
def test_two_syncs_in_mount_namespaces_of_their_own_pull_each_image_once(
    importing: Importing, proxy: FaultyProxy, tmp_path: Path
) -> None:
    listed = tmp_path / "containers.txt"
    listed.write_text(f"{proxy.host}/lab/small:1\n{proxy.host}/lab/multi:1\n")
    command = ["unshare", "--mount", *importing.command("sync", "--insecure-http", "--with", "skopeo", str(listed))]
    both = [subprocess.Popen(command, env=importing.environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    layers = {what: count for what, count in proxy.seen.items() if what.startswith("GET") and "/blobs/" in what}
    assert set(layers.values()) == {1}
    assert sum(int(text.split(" of them new")[0].split()[-1]) for text in said) == 2
