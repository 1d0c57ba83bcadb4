"""Pyxis's importer: answers from the catalogue, and one pull for the whole cluster of everything else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.registry import FaultyProxy, Image, Layer, Registry, failing
from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.containers.imports.budget import RegistryBudget
from slurm_fsx_tools.containers.imports.importing import import_image
from slurm_fsx_tools.containers.index import update_index
from slurm_fsx_tools.containers.names import ImageName
from slurm_fsx_tools.containers.on_demand.own_cache import POLL_S, OwnCache
from slurm_fsx_tools.containers.on_demand.pulling import options_for, pull
from slurm_fsx_tools.containers.on_demand.wanted import Wanted
from slurm_fsx_tools.containers.store import Store
from slurm_fsx_tools.errors import SlurmFsxError, UntrustedFile
from slurm_fsx_tools.programs import StopSign
from slurm_fsx_tools.shared_lock import try_hold

PYTORCH = "nvcr.io_nvidia_pytorch-24.03-py3"

# Each worker is a process of its own that comes up as Pyxis would start it, but for Python's start.
CROWD = """
import contextlib, encodings.idna, io, json, os, sys, time  # idna: a user may not reach Python's folder for it later
from slurm_fsx_tools.config.model import Config, Snapshot
from slurm_fsx_tools.containers.on_demand import pulling, pyxis_importer
order = json.load(sys.stdin)
snapshot = Snapshot(Config(order["config"]), (), "", {})
folder, workers = order["folder"], []
if order.get("uid"):
    os.setgroups([])
    os.setresgid(order["uid"], order["uid"], order["uid"])
    os.setresuid(order["uid"], order["uid"], order["uid"])
os.umask(0o077)
os.environ["HOME"] = folder
for name in ("XDG_CONFIG_HOME", "ENROOT_CONFIG_PATH"):
    os.environ.pop(name, None)
start_r, start_w = os.pipe()
for number in range(order["workers"]):
    worker = os.fork()
    if worker == 0:
        os.close(start_w)
        os.read(start_r, 1)
        talk = io.StringIO()
        with contextlib.redirect_stderr(talk):
            try:
                answer = pyxis_importer.get(order["uri"], snapshot, order["environ"])
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
        with open(f"{folder}/{number}.part", "w") as file:
            json.dump({"answer": answer, "at": time.monotonic(), "talk": talk.getvalue()}, file)
        os.rename(f"{folder}/{number}.part", f"{folder}/{number}")
        os._exit(0)
    workers.append(worker)
print(json.dumps(workers), flush=True)
os.close(start_r)
os.close(start_w)
for worker in workers:
    os.waitpid(worker, 0)
"""


class Crowd:
    """Processes that ask the importer for one image at the same time."""

    def __init__(
        self,
        config: Config,
        uri: str,
        workers: int = 1,
        job: str = "1",
        uid: int = 0,
        environ: dict[str, str] | None = None,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="crowd-"))
        self._folder.chmod(0o777)
        order = {
            "config": config.as_dict(),
            "uri": uri,
            "workers": workers,
            "uid": uid,
            "folder": str(self._folder),
            "environ": {"SLURM_JOB_ID": job, **(environ or {})},
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", CROWD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order))
        self._process.stdin.close()
        self.workers: list[int] = json.loads(self._process.stdout.readline())

    def results(self) -> list[dict[str, object]]:
        """Wait for all, and give what those that were not killed have said."""
        self._process.wait(timeout=300)
        assert self._process.stdout is not None
        self._process.stdout.close()
        found = [json.loads(path.read_text()) for path in sorted(self._folder.glob("[0-9]*")) if not path.suffix]
        shutil.rmtree(self._folder)
        return found

    def answer(self) -> str:
        (result,) = self.results()
        return str(result["answer"])


class Home:
    """A shared file system with a catalogue, and the caches that root makes for users."""

    def __init__(self, fsx: Path, registry: str) -> None:
        self.fsx = fsx
        self.store = Store(f"{fsx}/containers")
        for path, mode in ((self.store.folder, 0o755), (self.store.state, 0o755), (self.store.caches, 0o711)):
            os.makedirs(path)
            os.chmod(path, mode)
        self.config = Config({"fsx.root": str(fsx), "containers.http_registries": [registry], "fsx.timeout": 30.0})
        self.add_user(os.geteuid())

    def add_user(self, uid: int) -> Store:
        cache = self.store.cache(uid)
        os.mkdir(cache.folder, 0o700)
        os.chown(cache.folder, uid, uid)
        return cache

    def cache(self, uid: int | None = None) -> Store:
        return self.store.cache(os.geteuid() if uid is None else uid)

    def own_cache(self) -> OwnCache:
        return OwnCache(self.cache(), os.uname().machine)

    def wait_for_pull(self) -> None:
        """Wait until somebody has begun to import."""
        end = time.monotonic() + 60
        while not any(Path(self.cache().imports).glob("[!.]*.json")):
            assert time.monotonic() < end
            time.sleep(0.005)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    for program in ("docker-registry", "skopeo", "umoci", "mksquashfs"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}: see lab/packages.txt")
    with Registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def home(registry: Registry) -> Iterator[Home]:
    # Other users must get there, which pytest's own folder does not let them.
    folder = Path(tempfile.mkdtemp(prefix="slurm-fsx-home-"))
    folder.chmod(0o755)
    yield Home(folder / "fsx", registry.host)
    shutil.rmtree(folder)


def push(registry: Registry, repository: str, size_bytes: int = 1 << 16) -> str:
    """Push an image of random bytes; give its URI."""
    registry.push(f"{repository}:latest", Image([Layer({"payload": os.urandom(size_bytes)})]))
    return f"docker://{registry.host}/{repository}:latest"


def add_image(home: Home, superblock: object, stem: str) -> str:
    path = Path(home.store.path(f"{stem}.sqsh"))
    path.write_bytes(superblock())  # type: ignore[operator]
    path.chmod(0o644)
    return str(path)


@pytest.mark.parametrize(
    ("text", "name", "uri", "is_short"),
    [
        pytest.param("docker://pytorch", "pytorch", "docker://pytorch", True, id="short"),
        pytest.param("docker://pytorch-24.03", "pytorch-24.03", "docker://pytorch-24.03", True, id="pin"),
        pytest.param("docker://torch", "torch", "docker://nvcr.io/nvidia/pytorch:24.03-py3", True, id="alias"),
        pytest.param(
            "docker://nvcr.io/nvidia/pytorch:24.03-py3",
            PYTORCH,
            "docker://nvcr.io/nvidia/pytorch:24.03-py3",
            False,
            id="full",
        ),
        pytest.param(
            "docker://nvcr.io#nvidia/pytorch:24.03-py3",
            PYTORCH,
            "docker://nvcr.io#nvidia/pytorch:24.03-py3",
            False,
            id="enroots-form",
        ),
        pytest.param(
            "docker://ubuntu:24.04", "docker.io_library_ubuntu-24.04", "docker://ubuntu:24.04", False, id="tag"
        ),
    ],
)
def test_what_pyxis_passes_is_a_name_or_a_uri(text: str, name: str, uri: str, is_short: bool) -> None:
    config = Config({"containers.aliases": {"torch": "docker://nvcr.io/nvidia/pytorch:24.03-py3"}})
    assert Wanted.parse(text, config) == Wanted(name, uri, is_short)


@pytest.mark.parametrize("indexed", [True, False], ids=["by-the-index", "by-the-folder"])
@pytest.mark.parametrize(
    "uri",
    [
        "docker://pytorch",
        "docker://pytorch-24.03",
        "docker://nvcr.io/nvidia/pytorch:24.03-py3",
        "docker://nvcr.io#nvidia/pytorch:24.03-py3",
    ],
)
def test_an_image_of_the_catalogue_is_answered_by_its_path(
    home: Home, make_superblock: object, uri: str, indexed: bool
) -> None:
    path = add_image(home, make_superblock, PYTORCH)
    if indexed:
        os.utime(home.store.folder, (1_700_000_000, 1_700_000_000))
        update_index(home.config, must_ask=False)
    assert Crowd(home.config, uri).answer() == path


def test_an_image_elsewhere_is_pulled_once_by_all_who_want_it(home: Home, registry: Registry) -> None:
    uri = push(registry, "team/tool", 8 << 20)
    manifests, blobs = registry.asked("GET", "manifests"), registry.asked("GET", "blobs")
    results = Crowd(home.config, uri, workers=64).results()
    paths = {result["answer"] for result in results}
    assert len(results) == 64
    assert len(paths) == 1, paths
    (path,) = map(str, paths)
    assert path.startswith(f"{home.cache().folder}/sha256-")
    assert registry.asked("GET", "blobs") - blobs == 2  # the layer, and the configuration
    assert registry.asked("GET", "manifests") - manifests <= 4
    assert subprocess.run(["unsquashfs", "-l", path], check=True, capture_output=True, text=True).stdout
    waiting = [result for result in results if "waiting for" in str(result["talk"])]
    assert waiting
    assert f"on {os.uname().nodename} pulls it since" in str(waiting[0]["talk"])


def test_what_was_pulled_is_answered_without_a_registry_or_a_lock(home: Home, registry: Registry) -> None:
    uri = push(registry, "team/warm")
    path = Crowd(home.config, uri).answer()
    heads = registry.asked("HEAD", "manifests")
    os.utime(path, ns=(0, os.stat(path).st_mtime_ns))
    modified = os.stat(path).st_mtime_ns
    shutil.rmtree(home.cache().locks)
    assert Crowd(home.config, uri, job="2").answer() == path
    assert registry.asked("HEAD", "manifests") == heads
    assert os.stat(path).st_atime > time.time() - 3600
    assert os.stat(path).st_mtime_ns == modified


def test_a_job_keeps_its_image_when_the_tag_moves_and_the_next_job_gets_the_new_one(
    home: Home, registry: Registry
) -> None:
    uri = push(registry, "team/moving")
    old = Crowd(home.config, uri, job="1").answer()
    push(registry, "team/moving")
    make_old(home)
    assert Crowd(home.config, uri, job="1").answer() == old
    new = Crowd(home.config, uri, job="2").answer()
    assert new != old
    assert os.path.exists(old)


def test_when_the_puller_is_killed_another_takes_over(home: Home, registry: Registry) -> None:
    uri = push(registry, "team/killed", 24 << 20)
    first = Crowd(home.config, uri)
    home.wait_for_pull()
    others = Crowd(home.config, uri, workers=4, job="2")
    os.kill(first.workers[0], signal.SIGKILL)
    results = others.results()
    assert len(results) == 4
    (path,) = {str(result["answer"]) for result in results}
    assert path.startswith(home.cache().folder)
    subprocess.run(["unsquashfs", "-l", path], check=True, capture_output=True)
    assert first.results() == []


def test_an_image_that_is_not_there_is_told_to_all_who_wait(home: Home, registry: Registry) -> None:
    results = Crowd(home.config, f"docker://{registry.host}/team/none:1", workers=8).results()
    assert len(results) == 8
    assert all("has no team/none:1" in str(result["answer"]) for result in results), results


def make_old(home: Home) -> None:
    """Make all references as if the registry had been asked an hour ago."""
    for reference in Path(home.cache().references).iterdir():
        os.utime(reference, (time.time() - 3600, time.time() - 3600))


def test_a_registry_that_is_away_stops_no_job_whose_image_is_here(
    home: Home, tmp_path: Path, registry: Registry
) -> None:
    with Registry(tmp_path) as passing:
        home.config = Config({**home.config.as_dict(), "containers.http_registries": [passing.host]})
        uri = push(passing, "team/passing")
        path = Crowd(home.config, uri).answer()
    make_old(home)
    (result,) = Crowd(home.config, uri, job="2").results()
    assert result["answer"] == path
    assert "taking what" in str(result["talk"])


def test_an_image_that_was_removed_from_its_registry_is_refused_though_it_is_here(
    home: Home, registry: Registry
) -> None:
    uri = push(registry, "team/removed")
    path = Crowd(home.config, uri, job="1").answer()
    make_old(home)
    shutil.rmtree(registry.data / "docker/registry/v2/repositories/team/removed")
    assert "404" in Crowd(home.config, uri, job="2").answer()
    assert os.path.exists(path)


def test_two_users_have_each_their_own_private_copy(home: Home, registry: Registry, needs_root: None) -> None:
    uri = push(registry, "team/private")
    paths = {}
    for uid in (2001, 2002):
        home.add_user(uid)
        paths[uid] = Crowd(home.config, uri, uid=uid).answer()
        assert paths[uid].startswith(home.cache(uid).folder), paths[uid]
        status = os.stat(paths[uid])
        assert (status.st_uid, status.st_mode & 0o777) == (uid, 0o600)
        for folder, _, files in os.walk(home.cache(uid).folder):
            for entry in [folder, *(os.path.join(folder, file) for file in files)]:
                assert not os.lstat(entry).st_mode & 0o022, entry
    assert paths[2001] != paths[2002]
    reader = ["setpriv", "--reuid=2002", "--regid=2002", "--clear-groups", "head", "--bytes=4"]
    assert subprocess.run([*reader, paths[2002]], capture_output=True).stdout == b"hsqs"
    refused = subprocess.run([*reader, paths[2001]], capture_output=True, text=True)
    assert refused.returncode != 0
    assert "Permission denied" in refused.stderr


@pytest.mark.parametrize("mode", [0o701, 0o720, 0o755])
def test_a_cache_that_others_may_enter_is_not_used(home: Home, mode: int) -> None:
    os.chmod(home.cache().folder, mode)
    with pytest.raises(UntrustedFile, match="chmod 700"):
        home.own_cache().check()


def test_a_cache_of_somebody_else_is_not_used(home: Home, needs_root: None) -> None:
    os.chown(home.cache().folder, 2001, 2001)
    with pytest.raises(UntrustedFile, match="belongs to user 2001"):
        home.own_cache().check()


def test_a_missing_cache_says_who_makes_it(home: Home) -> None:
    os.rmdir(home.cache().folder)
    with pytest.raises(SlurmFsxError, match="made when a step starts"):
        home.own_cache().check()


def test_links_in_place_of_a_caches_folders_are_refused(home: Home, tmp_path: Path) -> None:
    home.own_cache().check()
    for folder in (home.cache().references, home.cache().locks, home.cache().state):
        shutil.rmtree(folder)
        os.symlink(tmp_path, folder)
        with pytest.raises(UntrustedFile):
            home.own_cache().check()
        os.unlink(folder)
        home.own_cache().check()


def test_a_link_or_a_damaged_file_in_place_of_an_image_is_no_image(home: Home, registry: Registry) -> None:
    uri = push(registry, "team/linked")
    path = Crowd(home.config, uri).answer()
    name = ImageName.parse(uri)
    assert home.own_cache().find(name, "1") == path
    os.rename(path, f"{path}.kept")
    os.symlink(f"{path}.kept", path)
    assert home.own_cache().find(name, "1") is None
    os.unlink(path)
    shutil.copy(f"{path}.kept", path)
    os.truncate(path, 4096)
    assert home.own_cache().find(name, "1") is None


def test_a_reference_is_fresh_for_some_minutes_and_for_its_job(home: Home, registry: Registry) -> None:
    uri = push(registry, "team/fresh")
    path = Crowd(home.config, uri, job="7").answer()
    name = ImageName.parse(uri)

    def find(after_s: float, job: str) -> str | None:
        return OwnCache(home.cache(), os.uname().machine, lambda: time.time() + after_s).find(name, job)

    assert find(60, "8") == path
    assert find(3600, "8") is None
    assert find(3600, "7") == path
    assert find(3600, "") is None
    assert find(-3600, "8") is None  # a clock that goes wrong makes nothing fresh


def test_a_puller_that_lost_its_lock_takes_what_its_successor_brought(home: Home, registry: Registry) -> None:
    uri = push(registry, "team/lost")
    name = ImageName.parse(uri)
    cache = home.own_cache()
    cache.check()
    talk: list[str] = []

    def pull_too_long() -> str:
        # Meanwhile another node takes the lock over, pulls, and is done.
        lock = f"{cache.store.locks}/reference-{cache._key(name)}"
        numbers = [int(path.suffix[1:]) for path in Path(cache.store.locks).glob(f"{os.path.basename(lock)}.*")]
        other = OwnCache(home.cache(), "elsewhere")
        path = other.fetch(name, "1", lambda: bring(other), talk.append, lambda owner: "")
        reference = Path(other._path(name)).read_bytes()
        Path(f"{lock}.{max(numbers) + 1}").write_bytes(b"")
        Path(cache._path(name)).write_bytes(reference)
        Path(cache._path(name)).chmod(0o600)
        return os.path.basename(path)

    def bring(cache: OwnCache) -> str:
        import_image(name, cache.store, options_for(name, home.config), lambda progress: None, "pulled.sqsh")
        return "pulled.sqsh"

    path = cache.fetch(name, "1", pull_too_long, talk.append, lambda owner: "")
    assert path == home.cache().path("pulled.sqsh")
    assert any("taken over" in line for line in talk)


def test_the_more_nodes_a_job_has_the_less_often_each_of_them_looks(home: Home, registry: Registry) -> None:
    name = ImageName.parse(push(registry, "team/many"))
    home.own_cache().check()
    other = home.own_cache()
    holder = try_hold(f"{other.store.locks}/reference-{other._key(name)}")
    assert holder is not None
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 20:
            # What the one that was waited for brings, with the lock that it had.
            holder.release()
            other.fetch(name, "1", lambda: bring(other), lambda text: None, lambda owner: "")

    def bring(cache: OwnCache) -> str:
        import_image(name, cache.store, options_for(name, home.config), lambda progress: None, "pulled.sqsh")
        return "pulled.sqsh"

    crowd = OwnCache(home.cache(), os.uname().machine, nodes=1000, sleep=sleep)
    assert crowd.fetch(name, "1", lambda: bring(crowd), lambda text: None, lambda owner: "").endswith("pulled.sqsh")
    assert len(waits) == 20
    assert all(POLL_S * 5 <= wait <= POLL_S * 15 for wait in waits)


def test_a_users_own_pull_keeps_the_rest_that_a_registry_wants_and_asks_others_to(
    home: Home, registry: Registry
) -> None:
    with FaultyProxy(registry).running() as proxy:
        repository = push(registry, "team/busy").rpartition("/team/")[2]
        uri = f"docker://{proxy.host}/team/{repository}"
        config = Config({**home.config.as_dict(), "containers.http_registries": [proxy.host]})
        cache = home.own_cache()
        cache.check()
        talk: list[str] = []
        proxy.faults.append(failing(1, 429, {"Retry-After": "2"}))
        path = pull(ImageName.parse(uri), cache, config, "1", talk.append)
        (first, _), (second, _) = proxy.times[:2]
        assert second - first >= 2
        assert os.path.exists(f"{cache.store.registries}/{proxy.host}.json")
        # What is here is taken at once where the registry wants to be left alone, and nobody asks it.
        os.mkdir(home.store.registries)
        RegistryBudget(home.store, proxy.host, 1, StopSign()).pause(3600)
        asked = len(proxy.times)
        os.utime(cache._path(ImageName.parse(uri)), (0, 0))
        assert pull(ImageName.parse(uri), cache, config, "2", talk.append) == path
        assert len(proxy.times) == asked
        assert "wants to be left alone for 3" in talk[-1]
