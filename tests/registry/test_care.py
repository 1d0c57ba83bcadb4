"""Images that were really imported: verified, damaged, removed, and brought again."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from slurm_fsx_tools.containers.records import read_records

if TYPE_CHECKING:
    from .conftest import Importing, Lab


def test_a_damaged_image_is_found_and_what_is_said_about_it_brings_it_back(importing: Importing, lab: Lab) -> None:
    uri = f"{lab.registry.host}/lab/small:1"
    importing.bring(uri)
    importing.bring(f"{lab.registry.host}/lab/other:1")
    path = importing.path(uri)
    done = importing.run("verify")
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["ok", "ok"]
    assert all(row.endswith("superblock, size and time, folders, checksum") for row in rows)

    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)[0]
        file.seek(before.st_size // 2)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = importing.run("verify")
    assert done.returncode == 1
    assert f"slurm-fsx: {path.name} is damaged: its " in done.stderr
    assert (
        f"run: slurm-fsx containers remove {path.name}; then slurm-fsx containers import docker://{uri}" in done.stderr
    )

    removed = importing.run("remove", "--force", path.name)
    assert removed.returncode == 0, removed.stderr
    assert list(read_records(importing.store)) == [importing.path(f"{lab.registry.host}/lab/other:1").name]
    assert importing.bring(uri).is_new
    assert importing.run("verify", path.name).returncode == 0


def test_the_listing_tells_what_an_image_was_made_from(importing: Importing, lab: Lab) -> None:
    uri = f"{lab.registry.host}/lab/small:1"
    imported = importing.bring(uri)
    [image] = json.loads(importing.run("list", "--json").stdout)["images"]
    assert image["record"]["uri"] == f"docker://{uri}"
    assert (image["record"]["digest"], image["record"]["sha256"]) == (imported.digest, imported.sha256)
    assert image["record"]["architecture"] == "amd64"
