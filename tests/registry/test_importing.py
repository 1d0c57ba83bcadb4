"""Imports from a real registry on loopback, with Debian's skopeo, umoci and mksquashfs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.registry import FaultyProxy, Image, Layer, busybox_layer, random_layer
from slurm_fsx_tools.containers.imports.importing import import_image, plan_import
from slurm_fsx_tools.containers.imports.state import DIED, DONE, UNCHANGED, read_states
from slurm_fsx_tools.containers.names import ImageName
from slurm_fsx_tools.containers.records import describes, read_record
from slurm_fsx_tools.errors import ImageNotInRegistry, ImportFailed, SlurmFsxError, UntrustedFile

if TYPE_CHECKING:
    from .conftest import Importing, Lab


def cat(image: Path, file: str) -> str:
    return subprocess.run(["unsquashfs", "-cat", image, file], capture_output=True, text=True, check=True).stdout


def listing(image: Path) -> str:
    return subprocess.run(["unsquashfs", "-lln", image], capture_output=True, text=True, check=True).stdout


def test_an_image_comes_with_its_record_and_leaves_nothing_else(importing: Importing, lab: Lab) -> None:
    uri = f"docker://{lab.registry.host}/lab/small:1"
    imported = importing.bring(uri)
    path = importing.path(uri)
    assert (imported.path, imported.digest, imported.is_new) == (str(path), lab.digests["small"], True)
    assert imported.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.stat().st_mode & 0o7777 == 0o644
    record = read_record(importing.store, path.name)
    assert record is not None
    assert describes(record, path.stat())
    assert (record.uri, record.digest, record.architecture, record.importer) == (
        uri, lab.digests["small"], "amd64", "skopeo",
    )  # fmt: skip
    assert importing.leftovers() == []
    phases = list(dict.fromkeys(progress.phase for progress in importing.told))
    assert phases == ["checking", "downloading", "unpacking", "building", "verifying", "done"]
    assert [state.phase for state in read_states(importing.store)] == [DONE]


def test_the_image_holds_what_enroots_containers_need(importing: Importing, lab: Lab) -> None:
    uri = f"{lab.registry.host}/lab/small:1"
    importing.bring(uri)
    path = importing.path(uri)
    assert cat(path, "etc/environment") == "PATH=/usr/bin:/bin\nGREETING=hello world\n"
    assert {line.split()[1] for line in listing(path).splitlines() if "squashfs-root" in line} == {"0/0"}
    assert "squashfs-root/app/here\n" in listing(path)
    start = cat(path, "etc/rc")
    script = start.replace("/app/here", "/")
    environment = {"GREETING": "hello world", "PATH": os.environ["PATH"]}
    for arguments, said in (([], "hello world\n"), (["echo given"], "given\n")):
        done = subprocess.run(["sh", "-c", script, "rc", *arguments], env=environment, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == (said, "")


def test_an_unchanged_digest_is_not_downloaded_again(importing: Importing, proxy: FaultyProxy) -> None:
    uri = f"{proxy.host}/lab/small:1"
    first = importing.bring(uri)
    inode = importing.path(uri).stat().st_ino
    proxy.seen.clear()
    again = importing.bring(uri)
    assert again == first._replace(is_new=False)
    assert importing.path(uri).stat().st_ino == inode
    assert [what for what in proxy.seen if not what.startswith("HEAD")] == []
    assert read_states(importing.store)[0].phase == UNCHANGED


def test_a_tag_that_moved_is_imported_anew_and_who_has_the_old_file_open_keeps_it(
    importing: Importing, lab: Lab
) -> None:
    uri = f"{lab.registry.host}/lab/moving:1"
    lab.registry.push("lab/moving:1", Image([busybox_layer()]))
    old = importing.bring(uri)
    with importing.path(uri).open("rb") as opened:
        lab.registry.push("lab/moving:1", Image([busybox_layer({"new": b"1"})]))
        new = importing.bring(uri)
        assert new.is_new
        assert new.digest != old.digest
        assert hashlib.sha256(opened.read()).hexdigest() == old.sha256
    assert cat(importing.path(uri), "new") == "1"


def test_layers_that_are_there_are_not_downloaded_for_another_image(importing: Importing, proxy: FaultyProxy) -> None:
    importing.bring(f"{proxy.host}/lab/small:1")
    before = sum(count for what, count in proxy.seen.items() if what.startswith("GET") and "/blobs/" in what)
    proxy.seen.clear()
    importing.bring(f"{proxy.host}/lab/other:1")
    after = sum(count for what, count in proxy.seen.items() if what.startswith("GET") and "/blobs/" in what)
    assert (before, after) == (3, 2)  # two layers and a configuration; then one layer less


@pytest.mark.parametrize(("architecture", "file"), [("amd64", "amd64"), ("arm64", "arm64")])
def test_of_a_list_of_manifests_the_wanted_processors_image_comes(
    importing: Importing, lab: Lab, architecture: str, file: str
) -> None:
    uri = f"{lab.registry.host}/lab/multi:1"
    imported = importing.bring(uri, architecture=architecture)
    assert imported.digest == lab.digests["multi"]
    assert f"squashfs-root/{file}\n" in listing(importing.path(uri))
    assert not importing.bring(uri, architecture=architecture).is_new


def test_an_image_for_other_processors_is_an_error_that_says_so(importing: Importing, lab: Lab) -> None:
    with pytest.raises(ImportFailed, match="made for amd64, and the nodes are arm64"):
        importing.bring(f"{lab.registry.host}/lab/small:1", architecture="arm64")
    with pytest.raises(ImageNotInRegistry, match="no image for riscv64, only for amd64, arm64"):
        importing.bring(f"{lab.registry.host}/lab/multi:1", architecture="riscv64")
    assert importing.images() == []


def test_an_image_is_imported_by_its_digest(importing: Importing, lab: Lab) -> None:
    uri = f"{lab.registry.host}/lab/small@{lab.digests['small']}"
    assert importing.bring(uri).digest == lab.digests["small"]
    assert importing.path(uri).exists()


def test_manifests_of_docker_are_understood(importing: Importing, lab: Lab) -> None:
    assert importing.bring(f"{lab.registry.host}/lab/docker:1").digest == lab.digests["docker"]


def test_the_file_may_be_called_otherwise(importing: Importing, lab: Lab) -> None:
    name = ImageName.parse(f"{lab.registry.host}/lab/small:1")
    imported = import_image(name, importing.store, importing.options(), importing.told.append, "mine.sqsh")
    assert imported.path == importing.store.path("mine.sqsh")
    assert read_record(importing.store, "mine.sqsh")


def test_a_plan_changes_nothing_and_tells_what_an_import_would_do(importing: Importing, lab: Lab) -> None:
    name = ImageName.parse(f"{lab.registry.host}/lab/small:1")
    plan = plan_import(name, importing.store, importing.options())
    assert (plan.action, plan.digest) == ("import", lab.digests["small"])
    assert plan.download_bytes > 3 << 20
    assert os.listdir(importing.store.folder) == []
    importing.bring(str(name))
    assert plan_import(name, importing.store, importing.options()).action == "unchanged"
    forced = plan_import(name, importing.store, importing.options(force=True))
    assert (forced.action, forced.download_bytes) == ("replace", 0)


class TestWhatStandsThere:
    """Files that are in the folder already."""

    def test_a_file_that_somebody_put_there_stays(self, importing: Importing, lab: Lab) -> None:
        uri = f"{lab.registry.host}/lab/small:1"
        donor = importing.bring(f"{lab.registry.host}/lab/other:1")
        importing.path(uri).write_bytes(Path(donor.path).read_bytes())
        kept = importing.bring(uri)
        assert not kept.is_new
        assert "was not imported by this: --force replaces it" in kept.note
        assert importing.path(uri).read_bytes() == Path(donor.path).read_bytes()
        assert importing.bring(uri, force=True).digest == lab.digests["small"]

    def test_a_file_that_was_changed_since_stays(self, importing: Importing, lab: Lab) -> None:
        uri = f"{lab.registry.host}/lab/other:1"
        importing.bring(uri)
        with importing.path(uri).open("ab") as file:
            file.write(b"\0")
        assert "was changed since" in importing.bring(uri).note

    def test_half_a_file_is_replaced(self, importing: Importing, lab: Lab) -> None:
        uri = f"{lab.registry.host}/lab/other:1"
        importing.path(uri).write_bytes(b"hsqs" + bytes(10))
        assert importing.bring(uri).is_new

    def test_a_planted_link_is_kept_or_replaced_but_never_followed(
        self, importing: Importing, lab: Lab, tmp_path: Path
    ) -> None:
        uri = f"{lab.registry.host}/lab/other:1"
        victim = tmp_path / "victim"
        victim.write_text("precious")
        importing.path(uri).symlink_to(victim)
        assert "it is a link" in importing.bring(uri).note
        importing.bring(uri, force=True)
        assert victim.read_text() == "precious"
        assert not importing.path(uri).is_symlink()

    def test_a_folder_of_that_name_is_an_error(self, importing: Importing, lab: Lab) -> None:
        uri = f"{lab.registry.host}/lab/other:1"
        importing.path(uri).mkdir()
        with pytest.raises(ImportFailed, match="is no file"):
            importing.bring(uri)

    @pytest.mark.parametrize("folder", ["state", "staging", "layers", "records", "locks", "imports"])
    def test_a_link_in_place_of_our_folders_is_refused(
        self, importing: Importing, lab: Lab, tmp_path: Path, folder: str
    ) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        place = Path(getattr(importing.store, folder))
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(elsewhere)
        with pytest.raises(UntrustedFile, match="is no folder"):
            importing.bring(f"{lab.registry.host}/lab/other:1")
        assert list(elsewhere.iterdir()) == []

    def test_links_in_staging_and_layers_lead_nowhere(self, importing: Importing, lab: Lab, tmp_path: Path) -> None:
        uri = f"{lab.registry.host}/lab/other:1"
        importing.bring(uri)
        victim = tmp_path / "victim"
        victim.write_text("precious")
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "file").write_text("precious")
        staging = Path(importing.store.staging)
        name = importing.path(uri).name
        (staging / f"{name}.1").symlink_to(victim)
        (staging / f"{name}.2").symlink_to(folder)
        (staging / f"{name}.3").mkdir()
        (staging / f"{name}.3" / "scratch").symlink_to(folder)
        for layer in (Path(importing.store.layers) / "sha256").iterdir():
            layer.unlink()
            layer.symlink_to(victim)
        importing.bring(uri, force=True)
        assert victim.read_text() == (folder / "file").read_text() == "precious"
        assert cat(importing.path(uri), "etc/environment")

    def test_a_folder_that_others_can_write_to_is_refused(self, importing: Importing, lab: Lab) -> None:
        os.chmod(importing.store.folder, 0o777)
        with pytest.raises(UntrustedFile, match="can be written by others"):
            importing.bring(f"{lab.registry.host}/lab/other:1")


def test_an_images_own_links_lead_root_nowhere(importing: Importing, lab: Lab, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    etc = {"etc/environment": str(victim), "etc/rc": str(victim), "etc/fstab": str(victim), "app": str(tmp_path)}
    lab.registry.push("lab/links:1", Image([Layer({"etc/": b"", **etc})], {"WorkingDir": "/app/here"}))
    uri = f"{lab.registry.host}/lab/links:1"
    importing.bring(uri)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "here").exists()
    assert "cd /app/here" in cat(importing.path(uri), "etc/rc")
    lab.registry.push("lab/links:2", Image([Layer({"etc": str(tmp_path)})]))
    with pytest.raises(ImportFailed, match="the image's /etc is a link"):
        importing.bring(f"{lab.registry.host}/lab/links:2")
    assert sorted(os.listdir(importing.store.staging)) == []


def test_several_who_want_the_same_image_download_it_once(importing: Importing, proxy: FaultyProxy) -> None:
    uri = f"{proxy.host}/lab/small:1"
    results = []
    threads = [threading.Thread(target=lambda: results.append(importing.bring(uri))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.is_new for result in results) == [False] * 5 + [True]
    assert {count for what, count in proxy.seen.items() if what.startswith("GET") and "/blobs/" in what} == {1}
    assert any("is at it: waiting" in progress.text for progress in importing.told)


def test_an_ordinary_user_imports_into_a_folder_of_their_own(
    importing: Importing, lab: Lab, tmp_path: Path, needs_root: None
) -> None:
    for path in (*reversed(tmp_path.relative_to("/").parents), tmp_path.relative_to("/")):
        if os.stat(f"/{path}").st_mode & 0o005 != 0o005:
            os.chmod(f"/{path}", 0o755)
    nobody = 65534
    for path in (importing.scratch, Path(importing.store.folder)):
        os.chown(path, nobody, nobody)
    uri = f"{lab.registry.host}/lab/small:1"
    child = os.fork()
    if child == 0:
        os.setgid(nobody)
        os.setuid(nobody)
        try:
            imported = importing.bring(uri, credentials_file="/nonexistent")
            os._exit(0 if imported.is_new else 1)
        except SlurmFsxError as error:
            os.write(2, str(error).encode())
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert importing.path(uri).stat().st_uid == nobody
    assert importing.leftovers() == []


def test_who_does_not_own_the_folder_is_told_so(importing: Importing, lab: Lab, needs_root: None) -> None:
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            importing.bring(f"{lab.registry.host}/lab/small:1")
        except SlurmFsxError as error:
            os._exit(0 if "belongs to user 0" in str(error) or "Permission" in str(error) else 3)
        except PermissionError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_import_whose_process_died_is_shown_so(importing: Importing, lab: Lab) -> None:
    child = os.fork()
    if child == 0:

        def die_when_unpacking(progress: object) -> None:
            if getattr(progress, "phase", "") == "building":
                os._exit(0)

        import_image(
            ImageName.parse(f"{lab.registry.host}/lab/small:1"),
            importing.store,
            importing.options(),
            die_when_unpacking,
        )
    os.waitpid(child, 0)
    states = read_states(importing.store)
    assert [(state.phase, state.pid) for state in states] == [(DIED, child)]
    assert importing.bring(f"{lab.registry.host}/lab/small:1").is_new
    assert importing.leftovers() == []


def test_layers_that_nobody_used_for_a_day_are_removed(importing: Importing, lab: Lab) -> None:
    importing.bring(f"{lab.registry.host}/lab/small:1")
    folder = Path(importing.store.layers) / "sha256"
    for layer in folder.iterdir():
        os.utime(layer, (1, 1))
    lab.registry.push("lab/alone:1", Image([random_layer("alone", 100)]))
    importing.bring(f"{lab.registry.host}/lab/alone:1")
    assert len(list(folder.iterdir())) == 3  # the new image's manifest, configuration and layer


def test_a_damaged_layer_is_downloaded_again(importing: Importing, proxy: FaultyProxy) -> None:
    uri = f"{proxy.host}/lab/small:1"
    good = importing.bring(uri)
    layers = sorted((Path(importing.store.layers) / "sha256").iterdir(), key=lambda layer: layer.stat().st_size)
    layers[-1].write_bytes(bytes(layers[-1].stat().st_size))  # as large as it should be
    layers[-2].write_bytes(b"")
    proxy.seen.clear()
    again = importing.bring(uri, force=True)
    assert again.digest == good.digest
    assert proxy.downloads(layers[-1].name) == proxy.downloads(layers[-2].name) == 1
