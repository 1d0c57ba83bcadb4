"""Images in use on real Slurm: what a running job has started from stays, and goes after the job has ended."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lab.cluster import Cluster

    from .conftest import Site

COMMAND = "/opt/slurm-fsx/bin/slurm-fsx"
ACTIVE = "from slurm_fsx_tools.slurm.commands import CommandClient; print(*sorted(CommandClient().active_jobs()))"
CLUSTER_NAME = "from slurm_fsx_tools.slurm.commands import CommandClient; print(CommandClient().cluster_name())"
TOOLS = ("quay.io_x_tool-1", "quay.io_x_tool-2", "quay.io_x_tool-3")
SAY_ID = '#!/bin/sh\necho "$SLURM_JOB_ID"\nsleep 300\n'


@pytest.fixture
def site(bare_site: Site, tmp_path: Path) -> Iterator[Site]:
    """The shared cluster with three images of one repository; afterwards as it was."""
    folder = bare_site.cluster.fsx / "containers"
    for image in folder.glob("*.sqsh"):
        shutil.copy2(image, tmp_path)
    for name in TOOLS:
        bare_site.image(name)
    yield bare_site
    bare_site.cluster.head.run(["scancel", "--full", "--user=ada"])
    bare_site.cluster.wait_until_idle()
    for name in TOOLS:
        (folder / f"{name}.sqsh").unlink(missing_ok=True)
        shutil.rmtree(folder / f".slurm-fsx/uses/{name}.sqsh", ignore_errors=True)
    for image in tmp_path.glob("*.sqsh"):
        if not (folder / image.name).exists():
            shutil.copy2(image, folder)
    bare_site.index()


def active_jobs(cluster: Cluster) -> set[int]:
    done = cluster.run_on("head", ["/opt/slurm-fsx/bin/python3", "-I", "-c", ACTIVE])
    assert done.returncode == 0, done.stderr
    return {int(job) for job in done.stdout.split()}


def said_ids(output: str) -> set[int]:
    return {int(line) for line in output.split()}


def mark(cluster: Cluster, image: str, *jobs: int) -> Path:
    """Leave what root leaves when a job's step starts from an image."""
    folder = cluster.fsx / "containers/.slurm-fsx/uses" / f"{image}.sqsh"
    folder.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        (folder / str(job)).touch()
    os.utime(folder, (0, 0))
    return folder


def prune(cluster: Cluster, *options: str) -> dict[str, tuple[bool, str]]:
    arguments = [COMMAND, "containers", "prune", "--keep", "1", "--json", *options]
    done = cluster.run_on("head", arguments)
    assert done.returncode == 0, done.stderr
    return {each["file"]: (each["goes"], each["reason"]) for each in json.loads(done.stdout)}


def test_the_jobs_that_have_nodes_are_known_by_the_ids_that_they_know_themselves_by(site: Site) -> None:
    cluster = site.cluster
    array = cluster.sbatch(SAY_ID, "--array=3,5,7%2")  # the third one waits
    cluster.wait_until(lambda: len(said_ids(array.output)) == 2, "two elements of the array running")
    job = cluster.sbatch(SAY_ID)
    waiting = cluster.sbatch(SAY_ID, "--begin=now+1hour")
    cluster.wait_until(lambda: said_ids(job.output) == {job.id}, "the job running")
    expected = said_ids(array.output) | {job.id}
    assert active_jobs(cluster) == expected
    assert waiting.id not in expected
    # A user's settings of squeue choose nothing.
    done = cluster.run_on(
        "head",
        ["/opt/slurm-fsx/bin/python3", "-I", "-c", ACTIVE],
        env={"SQUEUE_STATES": "PENDING", "SQUEUE_USERS": "root", "SQUEUE_FORMAT": "%i"},
    )
    assert said_ids(done.stdout) == expected
    cluster.cancel(job)
    assert active_jobs(cluster) == said_ids(array.output)


def test_each_part_of_a_heterogeneous_job_is_active(site: Site) -> None:
    cluster = site.cluster
    script = "#!/bin/sh\n#SBATCH --ntasks=1\n#SBATCH hetjob\n#SBATCH --ntasks=1\n" + SAY_ID.partition("\n")[2]
    job = cluster.sbatch(script)
    cluster.wait_until(lambda: said_ids(job.output) == {job.id}, "the job running")
    assert active_jobs(cluster) == {job.id, job.id + 1}
    cluster.cancel(job)
    assert active_jobs(cluster) == set()


def test_a_suspended_job_is_active(site: Site) -> None:
    cluster = site.cluster
    job = cluster.sbatch(SAY_ID)
    cluster.wait_until(lambda: said_ids(job.output) == {job.id}, "the job running")
    assert cluster.head.run(["scontrol", "suspend", str(job.id)]).returncode == 0
    assert active_jobs(cluster) == {job.id}
    cluster.cancel(job)


def test_an_image_in_use_stays_and_goes_after_the_job_has_ended(site: Site) -> None:
    cluster = site.cluster
    file = f"{TOOLS[0]}.sqsh"
    job = cluster.sbatch("#!/bin/sh\necho started\nsleep 300\n", f"--container-name={TOOLS[0]}")
    cluster.wait_until(lambda: "started" in job.output, "the container running")
    marker = cluster.fsx / "containers/.slurm-fsx/uses" / file / f"lab.{job.id}"
    cluster.wait_until(marker.exists, "the marker that root leaves at step start")
    ended = mark(cluster, TOOLS[2], 4_000_000)
    assert prune(cluster)[file] == (False, f"job {job.id} uses it")
    removed = cluster.run_on("head", [COMMAND, "containers", "remove", file])
    assert removed.returncode == 1
    assert f"{file} stays: {file} is in use by job {job.id}; wait until it has ended" in removed.stderr
    found = prune(cluster, "--yes")
    assert found[f"{TOOLS[1]}.sqsh"][0]
    images = cluster.fsx / "containers"
    assert [name for name in TOOLS if (images / f"{name}.sqsh").exists()] == [TOOLS[0], TOOLS[2]]
    assert list(ended.iterdir()) == []
    cluster.cancel(job)
    assert prune(cluster, "--yes")[file][0]
    assert not (images / file).exists()
    assert not (images / ".slurm-fsx/uses" / file).exists()
    # Submissions know it at once, and the others still start.
    assert site.srun(f"--container-name={TOOLS[2]}")[0]["IMAGE"] == TOOLS[2]
    missing = cluster.srun(f"--container-name={TOOLS[0]}", "true")
    assert f"no image is called '{TOOLS[0]}'" in missing.stderr


def test_a_running_job_keeps_its_mark_when_those_of_ended_ones_are_tidied_away(site: Site) -> None:
    cluster = site.cluster
    job = cluster.sbatch("#!/bin/sh\necho started\nsleep 300\n", f"--container-name={TOOLS[0]}")
    cluster.wait_until(lambda: "started" in job.output, "the container running")
    marks = mark(cluster, TOOLS[0], 4_000_000)
    cluster.wait_until(lambda: len(os.listdir(marks)) == 2, "the marker that root leaves at step start")
    done = cluster.run_on("head", [COMMAND, "tidy"])
    assert done.returncode == 0, done.stderr
    assert os.listdir(marks) == [f"lab.{job.id}"]
    cluster.cancel(job)
    assert cluster.run_on("head", [COMMAND, "tidy"]).returncode == 0
    assert os.listdir(marks) == []


def test_a_job_of_another_cluster_holds_an_image_and_one_of_our_own_only_while_it_runs(site: Site) -> None:
    cluster = site.cluster
    name = cluster.run_on("head", ["/opt/slurm-fsx/bin/python3", "-I", "-c", CLUSTER_NAME]).stdout.strip()
    assert name == "lab"
    for image, job in ((TOOLS[0], "west.7"), (TOOLS[1], f"{name}.4000000")):
        folder = mark(cluster, image)
        (folder / job).touch()
        os.utime(folder, (0, 0))
    found = prune(cluster)
    assert found[f"{TOOLS[0]}.sqsh"] == (False, "job 7 of cluster west uses it")
    assert found[f"{TOOLS[1]}.sqsh"][0]


def test_the_cache_of_a_user_is_left_alone_while_that_user_has_a_job(site: Site) -> None:
    cluster = site.cluster
    cache = cluster.fsx / "containers/.slurm-fsx/caches/2001"
    cache.mkdir(parents=True, exist_ok=True)
    image = cache / "old.sqsh"
    image.write_bytes(b"hsqs")
    for path in (cache, image):
        os.chown(path, 2001, 2001)
    cache.chmod(0o700)
    os.utime(image, (0, 0))
    command = [COMMAND, "containers", "prune", "--caches", "--older-than", "30", "--yes"]
    job = cluster.sbatch(SAY_ID)
    cluster.wait_until(lambda: said_ids(job.output) == {job.id}, "the job running")
    done = cluster.run_on("head", command)
    assert (done.returncode, image.exists()) == (0, True), done.stderr
    assert "its user has a running job" in done.stdout
    cluster.cancel(job)
    done = cluster.run_on("head", command)
    assert (done.returncode, image.exists()) == (0, False), done.stderr


def test_while_the_controller_is_away_nothing_goes(site: Site) -> None:
    cluster = site.cluster
    cluster.slurmctld.stop()
    try:
        done = cluster.run_on("head", [COMMAND, "containers", "prune", "--keep", "1", "--yes"])
        assert done.returncode == 1
        assert "nobody knows which images are in use: squeue " in done.stderr
        assert all((cluster.fsx / f"containers/{name}.sqsh").exists() for name in TOOLS)
    finally:
        cluster.start_slurmctld()


def test_an_indexed_image_that_is_damaged_in_place_is_found_at_submission(site: Site) -> None:
    cluster = site.cluster
    site.index()
    path = cluster.fsx / f"containers/{TOOLS[1]}.sqsh"
    assert site.srun(f"--container-name={TOOLS[1]}")[0]["IMAGE"] == TOOLS[1]
    os.truncate(path, path.stat().st_size // 2)
    done = cluster.srun(f"--container-name={TOOLS[1]}", "true")
    assert f"{TOOLS[1]}.sqsh is not used: not complete: " in done.stderr
    # The repository's name means another image then.
    os.truncate(cluster.fsx / f"containers/{TOOLS[2]}.sqsh", 1000)
    assert site.srun("--container-name=tool")[0]["IMAGE"] == TOOLS[0]


def test_the_documented_script_lists_the_images_for_any_user(site: Site) -> None:
    script = "/opt/slurm-fsx/share/slurm-fsx/scripts/list-containers.sh"
    done = site.cluster.run_on("head", [script, "--json"], user="ada")
    assert done.returncode == 0, done.stderr
    assert {os.path.basename(image["path"]) for image in json.loads(done.stdout)["images"]} >= {
        f"{name}.sqsh" for name in TOOLS
    }


def test_an_ordinary_user_sees_what_would_go_and_removes_nothing(site: Site) -> None:
    cluster = site.cluster
    prune = [COMMAND, "containers", "prune", "--keep", "1"]
    done = cluster.run_on("head", prune, user="ada")
    assert done.returncode == 0, done.stderr
    assert "goes" in done.stdout
    for command in ([*prune, "--yes"], [COMMAND, "containers", "remove", "--force", TOOLS[0]]):
        done = cluster.run_on("head", command, user="ada")
        assert done.returncode == 1
        assert "are not yours to remove\n           run this as root" in done.stderr
    assert all((cluster.fsx / f"containers/{name}.sqsh").exists() for name in TOOLS)
