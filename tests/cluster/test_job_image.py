"""How a prolog learns which image its job gets, in every way of asking for one; from there it is a metric's label."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from lab.prometheus import TEXTFILES

from .conftest import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Site

IMAGE = "nvcr.io_nvidia_pytorch-24.03-py3.sqsh"
OLDER = "nvcr.io_nvidia_pytorch-24.01-py3.sqsh"
PYTORCH = "--container-name=pytorch"
KEPT = "/var/log/job-info"
# The last script of the prolog: slurmd runs them in reverse alphabetical order.
KEEP = f"#!/bin/sh\nmkdir -p {KEPT}\ncp {TEXTFILES}/slurm_fsx_job_$SLURM_JOB_ID.prom {KEPT}/$SLURM_JOB_ID\nexit 0\n"


@pytest.fixture(autouse=True)
def kept(site: Site) -> Iterator[None]:
    """Nodes that keep what each prolog has said of its job."""
    script = site.cluster.slurm_etc / "prolog.d/10-keep"
    script.write_text(KEEP)
    script.chmod(0o755)
    yield
    script.unlink()


def labels(site: Site, job: int) -> dict[str, str]:
    """Give what the job's first node has said of it, by label."""
    text = site.cluster.nodes["n1"].path(f"{KEPT}/{job}").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("slurm_fsx_job_info{")]
    return dict(re.findall(r'(\w+)="([^"]*)"', line))


def told(site: Site, job: int) -> tuple[str, str]:
    found = labels(site, job)
    return found["container"], found["image"]


def id_in(output: str) -> int:
    """Give the id of the job whose environment this is."""
    [found] = re.findall(r"^SLURM_JOB_ID=(\d+)$", output, re.MULTILINE)
    return int(found)


@pytest.mark.parametrize("export", [(), ("--export=NONE",)], ids=["all", "none"])
def test_a_batch_job_and_a_step_alone_have_their_image_in_the_label(site: Site, export: tuple[str, ...]) -> None:
    batch = id_in(site.sbatch("env", "--nodelist=n1", PYTORCH, *export))
    alone = id_in(site.cluster.srun("--nodelist=n1", PYTORCH, *export, "env").stdout)
    assert told(site, batch) == told(site, alone) == ("pytorch", IMAGE)


def test_a_line_of_the_script_counts_like_an_option(site: Site) -> None:
    job = id_in(site.sbatch("#SBATCH --container-name=pytorch-24.01\nenv", "--nodelist=n1"))
    assert told(site, job) == ("pytorch-24.01", OLDER)


def test_each_task_of_an_array_has_the_image(site: Site) -> None:
    job = site.cluster.sbatch("#!/bin/sh\nenv\n", "--nodelist=n1", "--array=0-2", PYTORCH)
    assert site.cluster.wait(job) == "COMPLETED", job.output
    assert [told(site, id_in(output)) for output in job.outputs.values()] == [("pytorch", IMAGE)] * 3


def test_an_allocation_has_the_image_and_a_job_from_within_has_what_it_runs_in(site: Site) -> None:
    script = "srun env; sbatch --wait --nodelist=n1 --output=inner.out --wrap env >&2"
    done = site.cluster.salloc("--nodelist=n1", PYTORCH, "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert told(site, id_in(done.stdout)) == ("pytorch", IMAGE)
    inner = (site.cluster.home("ada") / "inner.out").read_text()
    # Slurm lets a submission from within an allocation inherit its SPANK options.
    image = f"{environment(inner)['IMAGE']}.sqsh" if "IMAGE" in environment(inner) else ""
    assert labels(site, id_in(inner))["image"] == image


def test_a_container_of_a_single_step_is_not_the_jobs(site: Site) -> None:
    job = id_in(site.sbatch(f"srun {PYTORCH} true && env", "--nodelist=n1"))
    assert told(site, job) == ("", "")


def test_an_image_that_the_user_names_is_in_the_label_as_well(site: Site) -> None:
    job = id_in(site.cluster.srun("--nodelist=n1", f"--container-image=/fsx/containers/{OLDER}", "env").stdout)
    assert labels(site, job)["image"] == OLDER


def test_the_label_is_the_image_of_the_submission_whatever_came_since(site: Site) -> None:
    job = site.cluster.sbatch("#!/bin/sh\ntrue\n", "--nodelist=n1", PYTORCH, "--hold")
    newer = site.image("nvcr.io_nvidia_pytorch-24.10-py3")
    try:
        site.index()
        site.cluster.run_on("head", ["scontrol", "release", str(job.id)])
        assert site.cluster.wait(job) == "COMPLETED"
        assert told(site, job.id) == ("pytorch", IMAGE)
    finally:
        newer.unlink()
        site.index()
