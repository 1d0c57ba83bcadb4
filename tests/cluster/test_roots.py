"""Named containers whose roots are prepared: they start at once, and leave nothing, whatever happens to them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.images import make_image

from .conftest import COMMAND, plugstack

if TYPE_CHECKING:
    from .conftest import Site

STATE = "/var/lib/slurm-fsx/containers"
IMAGE = "nvcr.io_nvidia_pytorch-24.03-py3"
OLDER = "nvcr.io_nvidia_pytorch-24.01-py3"
DATA = {"standin": "/var/lib/standin/{uid}", "pyxis": "/var/lib/enroot/data/user-{uid}"}
NOTHING = "slurm-fsx: nothing to remove\n"


@pytest.fixture
def pyxis_site(site: Site) -> Iterator[Site]:
    """A cluster with Pyxis or its stand-in, whose nodes must be as they were afterwards."""
    if site.runtime == "bwrap":
        pytest.skip("without Pyxis there are no named containers to prepare")
    yield site
    site.cluster.resume(*site.cluster.nodes)
    for machine in site.cluster.machines:
        machine.run(["rm", "-f", "/etc/slurm-fsx/config.yaml"])
    site.cluster.set_plugstack(plugstack(site.runtime))


@pytest.fixture
def global_site(pyxis_site: Site) -> Site:
    """The same, where containers outlive their jobs."""
    pyxis_site.cluster.set_plugstack(plugstack(pyxis_site.runtime, "global"))
    return pyxis_site


def mounts(site: Site, node: str = "n1") -> list[tuple[str, str, str]]:
    """The mounts of prepared roots on a node: mount point, options and source of each overlay."""
    found = []
    for line in Path(f"/proc/{site.cluster.nodes[node].pid}/mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        if tail.startswith("overlay ") and "/roots/" in tail.split()[1]:
            found.append((fields.split()[4], fields.split()[5], tail.split()[1]))
    return found


def processes(site: Site, name: str, node: str = "n1") -> list[int]:
    """The processes of that name on a node, by their ids there."""
    done = site.cluster.run_on(node, ["ps", "-e", "-o", "pid=,stat=,args="])
    lines = [line.split(None, 2) for line in done.stdout.splitlines()]
    return [int(pid) for pid, state, args in lines if name in args.split()[0] and "Z" not in state]


def data(site: Site, uid: int = 2001, node: str = "n1") -> Path:
    """Where a user's containers are on a node."""
    return site.cluster.nodes[node].path(DATA[site.runtime].format(uid=uid))


def listed(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


def assert_nothing_is_left(site: Site, state: str = STATE) -> None:
    cluster = site.cluster
    cluster.wait_until_idle()
    for name, node in cluster.nodes.items():
        assert mounts(site, name) == []
        cluster.wait_until(lambda name=name: not processes(site, "squashfuse", name), "squashfuse ended")  # type: ignore[misc]
        for folder in ("roots", "locks", "trash"):
            assert listed(node.path(f"{state}/{folder}")) == [], folder
        for uid in (2001, 2002):
            assert [entry for entry in listed(data(site, uid, name)) if entry.startswith("pyxis_")] == []
    assert {cluster.node_reason(name) for name in cluster.nodes} == {"none"}


def slurmd_says(site: Site, text: str) -> bool:
    return text in site.cluster.slurmd_log("n1")


def run(site: Site, script: str, *options: str, user: str = "ada") -> str:
    """Run a host script on n1 that starts steps."""
    job = site.cluster.sbatch(f"#!/bin/sh\n{script}\n", "--nodelist=n1", *options, user=user)
    state = site.cluster.wait(job)
    assert state == "COMPLETED", f"{state}\n{job.output}\n{site.cluster.report()}"
    return job.output


def start(site: Site, *options: str, script: str = "sleep 60", user: str = "ada"):  # type: ignore[no-untyped-def]
    """Start a job in the container on n1, and wait until it is inside."""
    job = site.cluster.sbatch(
        f"#!/bin/sh\necho inside\n{script}\n", "--nodelist=n1", "--container-name=pytorch", *options, user=user
    )
    site.cluster.wait_until(lambda: "inside" in job.output, "the job inside its container")
    return job


def test_the_first_start_is_from_a_mount_and_the_end_leaves_nothing(pyxis_site: Site) -> None:
    job = start(pyxis_site)
    [(point, options, source)] = mounts(pyxis_site)
    assert point == f"{DATA[pyxis_site.runtime].format(uid=2001)}/pyxis_{job.id}_pytorch"
    assert {"nosuid", "nodev"} <= set(options.split(","))
    assert source == f"{STATE}/roots/2001.pyxis_{job.id}_pytorch"
    folder = pyxis_site.cluster.nodes["n1"].path(source)
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (0, 0o700)
    pyxis_site.cluster.cancel(job)
    assert_nothing_is_left(pyxis_site)


def test_what_a_step_writes_is_there_for_the_next_one_and_gone_for_the_next_job(pyxis_site: Site) -> None:
    script = "srun --container-name=pytorch {}"
    first = run(
        pyxis_site,
        script.format("sh -c 'echo mine > /opt/mine; rm /etc/os-release'")
        + "; "
        + script.format("sh -c 'cat /opt/mine; ls /etc'"),
    )
    assert first.split()[0] == "mine"
    assert "os-release" not in first
    second = run(pyxis_site, script.format("ls /opt /etc"))
    assert "mine" not in second
    assert "os-release" in second
    assert_nothing_is_left(pyxis_site)


def test_steps_at_once_share_one_root(pyxis_site: Site) -> None:
    line = "srun --ntasks=1 --exact --mem=0 --container-name=pytorch sh -c 'echo in; sleep 2' &\n"
    job = pyxis_site.cluster.sbatch("#!/bin/sh\n" + 4 * line + "wait\n", "--nodelist=n1", "--ntasks=4")
    pyxis_site.cluster.wait_until(lambda: job.output.count("in\n") >= 2, "two steps inside")
    assert len(mounts(pyxis_site)) == 1
    assert pyxis_site.cluster.wait(job) == "COMPLETED", job.output
    assert job.output.count("in\n") == 4, job.output
    assert_nothing_is_left(pyxis_site)


def test_tasks_of_an_array_with_one_name_start_together_on_one_node(pyxis_site: Site) -> None:
    cluster = pyxis_site.cluster
    script = "#!/bin/sh\necho in; for i in 1 2 3 4 5 6 7 8; do sleep 1; [ -e ../stop ] && break; done\n"
    job = cluster.sbatch(script, "--nodelist=n1", "--array=0-3", "--container-name=pytorch")
    cluster.wait_until(lambda: list(job.outputs.values()).count("in\n") == 4, "all four inside")
    assert len({point for point, _, _ in mounts(pyxis_site)}) == 4
    cluster.cancel(job)
    assert_nothing_is_left(pyxis_site)


def test_two_users_with_one_name_have_each_their_own(pyxis_site: Site) -> None:
    jobs = [start(pyxis_site, user=user, script="touch /opt/$USER; ls /opt; sleep 60") for user in ("ada", "bob")]
    pyxis_site.cluster.wait_until(lambda: "bob" in jobs[1].output, "bob's file")
    assert "ada" not in jobs[1].output
    folders = {Path(point).parent for point, _, _ in mounts(pyxis_site)}
    assert folders == {Path(DATA[pyxis_site.runtime].format(uid=uid)) for uid in (2001, 2002)}
    for job in jobs:
        pyxis_site.cluster.cancel(job)
    assert_nothing_is_left(pyxis_site)


def test_an_images_devices_mean_nothing(pyxis_site: Site) -> None:
    image = pyxis_site.cluster.fsx / "containers/hostile.sqsh"
    make_image(image, {"IMAGE": "hostile"}, special=["opt/null c 666 0 0 1 3", "opt/root f 4755 0 0 echo x"])
    try:
        output = run(
            pyxis_site,
            "srun --container-image=/fsx/containers/hostile.sqsh --container-name=hostile "
            "sh -c 'ls -l /opt; echo x > /opt/null && echo written; :'",
        )
        assert "null" in output
        assert "written" not in output
    finally:
        image.unlink()
    assert_nothing_is_left(pyxis_site)


def test_an_image_that_is_broken_is_a_clear_error_and_leaves_nothing(pyxis_site: Site) -> None:
    image = pyxis_site.cluster.fsx / "containers/broken.sqsh"
    image.write_bytes(b"hsqs" + b"\xff" * 4092)
    try:
        done = pyxis_site.cluster.srun(
            "--nodelist=n1", f"--container-image=/fsx/containers/{image.name}", "--container-name=broken", "true"
        )
        assert done.returncode != 0
        assert slurmd_says(
            pyxis_site, "the container broken is left to Pyxis: /fsx/containers/broken.sqsh: it is no squashfs file"
        )
    finally:
        image.unlink()
    assert_nothing_is_left(pyxis_site)


def test_a_link_where_the_root_should_be_leads_nowhere(pyxis_site: Site) -> None:
    folder = DATA[pyxis_site.runtime].format(uid=2001)
    run(pyxis_site, "srun --container-name=pytorch true")
    job = pyxis_site.cluster.sbatch(
        f"#!/bin/sh\nln -s /etc {folder}/pyxis_${{SLURM_JOB_ID}}_pytorch\nsrun --container-name=pytorch ls /\n"
        f"rm {folder}/pyxis_${{SLURM_JOB_ID}}_pytorch\n",
        "--nodelist=n1",
    )
    pyxis_site.cluster.wait(job)
    assert slurmd_says(pyxis_site, f"the container pytorch is left to Pyxis: {folder}: ")
    assert_nothing_is_left(pyxis_site)


def test_a_data_folder_that_is_a_link_leads_to_no_folder_of_others(pyxis_site: Site) -> None:
    folder = DATA[pyxis_site.runtime].format(uid=2001)
    run(pyxis_site, "srun --container-name=pytorch true")
    job = pyxis_site.cluster.sbatch(
        f"#!/bin/sh\nmv {folder} {folder}.away && ln -s /etc {folder}\nsrun --container-name=pytorch true\n"
        f"rm {folder} && mv {folder}.away {folder}\n",
        "--nodelist=n1",
    )
    pyxis_site.cluster.wait(job)
    assert "pyxis" not in " ".join(listed(pyxis_site.cluster.nodes["n1"].path("/etc")))
    assert f"{folder}: Permission denied" in pyxis_site.cluster.slurmd_log("n1")
    assert_nothing_is_left(pyxis_site)


def test_a_data_folder_may_be_a_link_to_another_one_of_the_user(pyxis_site: Site) -> None:
    folder = DATA[pyxis_site.runtime].format(uid=2001)
    run(pyxis_site, "srun --container-name=pytorch true")
    output = run(
        pyxis_site,
        f"mv {folder} {folder}.away && ln -s {folder}.away {folder}\nsrun --container-name=pytorch env\n"
        f"grep -c ' {folder}.away/pyxis_[0-9]*_pytorch .* overlay ' /proc/self/mountinfo",
    )
    assert f"IMAGE={IMAGE}" in output
    assert output.splitlines()[-1] == "1"
    pyxis_site.cluster.run_on("n1", ["sh", "-c", f"rm {folder} && mv {folder}.away {folder}"])
    assert_nothing_is_left(pyxis_site)


def test_without_fuse_the_image_is_unpacked(pyxis_site: Site) -> None:
    node = pyxis_site.cluster.nodes["n1"]
    node.run(["mv", "/dev/fuse", "/dev/fuse.away"])
    try:
        output = run(pyxis_site, "srun --container-name=pytorch env; srun --container-name=pytorch env")
    finally:
        node.run(["mv", "/dev/fuse.away", "/dev/fuse"])
    assert output.count(f"IMAGE={IMAGE}") == 2
    assert slurmd_says(pyxis_site, f"unpacked /fsx/containers/{IMAGE}.sqsh as the container pytorch")
    assert_nothing_is_left(pyxis_site)


def test_where_the_data_path_is_a_mount_point_itself_the_image_is_unpacked(pyxis_site: Site) -> None:
    # enroot cannot list containers there while one runs from a mounted root: steps beside it would fail.
    folder = DATA[pyxis_site.runtime].format(uid=2001)
    node = pyxis_site.cluster.nodes["n1"]
    run(pyxis_site, "srun --container-name=pytorch true")
    node.run(["mount", "-t", "tmpfs", "-o", "mode=0700,uid=2001,gid=2001", "none", folder])
    try:
        first = start(pyxis_site)
        assert f"IMAGE={IMAGE}" in run(pyxis_site, "srun --container-name=pytorch env")
        pyxis_site.cluster.cancel(first)
        pyxis_site.cluster.wait_until_idle()
    finally:
        node.run(["umount", folder])
    assert slurmd_says(pyxis_site, f"[{first.id}.batch] slurm-fsx: unpacked")
    assert_nothing_is_left(pyxis_site)


def test_a_user_who_closes_the_way_to_a_container_keeps_nothing(pyxis_site: Site) -> None:
    folder = DATA[pyxis_site.runtime].format(uid=2001)
    cluster = pyxis_site.cluster
    run(pyxis_site, f"srun --container-name=pytorch true\nchmod 000 {folder}")
    try:
        cluster.wait_until(lambda: not mounts(pyxis_site) and not processes(pyxis_site, "squashfuse"), "nothing left")
    finally:
        # Pyxis's own epilog fails at a folder that is closed to it, with our plugin or without, and drains the node.
        cluster.nodes["n1"].run(["sh", "-c", f"chmod 700 {folder}; rmdir {folder}/pyxis_*"])
        cluster.resume("n1")
    # Slurm 24.11 goes on telling why a node was drained until its next job.
    assert cluster.srun("--nodelist=n1", "true").returncode == 0
    assert_nothing_is_left(pyxis_site)


def test_a_user_cannot_turn_squashfuse_to_other_work_or_hang_who_looks_at_mounts(pyxis_site: Site) -> None:
    node = pyxis_site.cluster.nodes["n1"]
    job = start(pyxis_site)
    [server] = processes(pyxis_site, "squashfuse")
    done = node.run(["sh", "-c", f"exec 3<>/proc/{server}/mem"], "ada")
    assert done.returncode != 0
    assert "Permission denied" in done.stderr
    assert node.run(["kill", "-STOP", str(server)], "ada").returncode == 0
    try:
        assert "fuse.squashfuse" not in node.run(["cat", "/proc/mounts"]).stdout
        assert node.run(["timeout", "5", "df"]).returncode in (0, 1)
    finally:
        node.run(["kill", "-CONT", str(server)])
    pyxis_site.cluster.cancel(job)
    assert_nothing_is_left(pyxis_site)


def test_where_the_configuration_says_so_images_are_unpacked_or_left_to_pyxis(pyxis_site: Site) -> None:
    for prepare in ("unpack", "off"):
        pyxis_site.configure(f"containers: {{prepare: {prepare}}}\n")
        pyxis_site.cluster.run_on("n1", [COMMAND, "config", "check"])
        job = start(pyxis_site)
        assert mounts(pyxis_site) == []
        assert listed(data(pyxis_site))[-1] == f"pyxis_{job.id}_pytorch"
        says = f"[{job.id}.batch] slurm-fsx: unpacked"
        assert slurmd_says(pyxis_site, says) == (prepare == "unpack")
        pyxis_site.cluster.cancel(job)
        assert_nothing_is_left(pyxis_site)


def test_the_next_step_works_after_squashfuse_was_killed(pyxis_site: Site) -> None:
    script = "srun --container-name=pytorch touch /opt/mine; touch killing; until [ -e killed ]; do sleep 0.1; done\n"
    cluster = pyxis_site.cluster
    home = cluster.home("ada")
    job = cluster.sbatch(f"#!/bin/sh\n{script}srun --container-name=pytorch ls /opt\n", "--nodelist=n1")
    cluster.wait_until((home / "killing").exists, "the first step")
    [server] = processes(pyxis_site, "squashfuse")
    cluster.run_on("n1", ["kill", "-9", str(server)])
    (home / "killed").touch()
    assert cluster.wait(job) == "COMPLETED", job.output
    assert job.output.split() == ["mine"]
    for flag in ("killing", "killed"):
        (home / flag).unlink()
    assert_nothing_is_left(pyxis_site)


def test_a_slurmstepd_that_was_killed_leaves_nothing(pyxis_site: Site) -> None:
    job = start(pyxis_site)
    [stepd] = processes(pyxis_site, "slurmstepd:")
    pyxis_site.cluster.run_on("n1", ["kill", "-9", str(stepd)])
    # The controller has no way to know: somebody sees that the job does not end.
    pyxis_site.cluster.cancel(job)
    pyxis_site.cluster.resume("n1")
    assert_nothing_is_left(pyxis_site)
    assert IMAGE in run(pyxis_site, "srun --container-name=pytorch env")


def test_a_node_that_lost_its_power_starts_the_next_job(pyxis_site: Site) -> None:
    cluster = pyxis_site.cluster
    config = "containers: {state_dir: /fsx/state}\n"
    state = cluster.fsx / "state"
    pyxis_site.configure(config)
    cluster.run_on("n1", [COMMAND, "config", "check"])
    job = start(pyxis_site, "--no-requeue")
    assert len(listed(state / "roots")) == 1
    cluster.reboot("n1")
    try:
        pyxis_site.set_up_containers()
        cluster.write_on_all("/etc/slurm-fsx/config.yaml", config)
        cluster.run_on("n1", [COMMAND, "config", "check"])
        assert IMAGE in run(pyxis_site, "srun --container-name=pytorch env")
        done = cluster.run_on("n1", [COMMAND, "containers", "cleanup"])
        assert (done.returncode, done.stderr) == (0, "")
        assert f"pyxis_{job.id}_pytorch of user 2001, whose job has ended" in done.stdout
        # For the controller the job runs still: its clock says so, since the host has not been off.
        cluster.cancel(job)
        assert_nothing_is_left(pyxis_site, "/fsx/state")
    finally:
        shutil.rmtree(state)


def test_an_image_that_does_not_answer_holds_nothing_of_ours(pyxis_site: Site) -> None:
    cluster = pyxis_site.cluster
    node = cluster.nodes["n1"]
    run(pyxis_site, "srun --container-name=pytorch true")
    node.hang_fsx(killable=True)
    try:
        process = cluster.head.start_process(
            ["srun", "--nodelist=n1", "--container-name=pytorch", "true"],
            "ada",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        cluster.wait_until(
            lambda: slurmd_says(pyxis_site, f"{IMAGE}.sqsh: its file system gives no answer"), "our line"
        )
    finally:
        node.heal_fsx()
    process.wait(60)
    cluster.resume("n1")
    assert_nothing_is_left(pyxis_site)


def test_a_global_container_keeps_what_was_written_until_its_image_changes(global_site: Site) -> None:
    image = global_site.image("docker.io_library_scope-1.0", {"MADE": "first"})
    line = "srun --container-name=scope sh -c 'ls /opt; echo $MADE; touch /opt/{}'"
    try:
        assert run(global_site, line.format("one")).split() == ["first"]
        global_site.cluster.wait_until_idle()
        assert mounts(global_site) == []
        assert run(global_site, line.format("two")).split() == ["one", "first"]
        # A job that runs keeps the image that it started with, and so does one that joins it.
        job = global_site.cluster.sbatch(
            "#!/bin/sh\necho inside; sleep 60\n", "--nodelist=n1", "--container-name=scope"
        )
        global_site.cluster.wait_until(lambda: "inside" in job.output, "the job inside")
        global_site.image("docker.io_library_scope-1.0", {"MADE": "second"})
        assert run(global_site, line.format("three")).split() == ["one", "two", "first"]
        assert slurmd_says(global_site, "the container scope is in use by another job")
        global_site.cluster.cancel(job)
        assert run(global_site, line.format("four")).split() == ["second"]
        done = global_site.cluster.run_on("n1", [COMMAND, "containers", "cleanup"])
        assert (done.returncode, done.stdout) == (0, "")
        # Only after containers.keep_writes.
        global_site.configure("containers: {keep_writes: 0}\n")
        done = global_site.cluster.run_on("n1", [COMMAND, "containers", "cleanup"])
        assert "writes of pyxis_scope of user 2001, unused for 0 days" in done.stdout, done.stderr
    finally:
        image.unlink()
        global_site.index()
    assert_nothing_is_left(global_site)


def test_a_global_container_that_somebody_unpacked_is_used_as_it_is(global_site: Site) -> None:
    folder = data(global_site)
    global_site.configure("containers: {prepare: off}\n")
    global_site.cluster.run_on("n1", [COMMAND, "config", "check"])
    run(global_site, "srun --container-name=pytorch touch /opt/mine")
    global_site.configure("")
    global_site.cluster.run_on("n1", [COMMAND, "config", "check"])
    try:
        assert run(global_site, "srun --container-name=pytorch ls /opt").split() == ["mine"]
        assert slurmd_says(global_site, "the container pytorch was unpacked before")
    finally:
        global_site.cluster.run_on("n1", ["rm", "-rf", f"{DATA[global_site.runtime].format(uid=2001)}/pyxis_pytorch"])
    assert folder.exists()
    assert_nothing_is_left(global_site)


def test_many_prepares_of_one_name_make_one_mount(pyxis_site: Site, core_tool: Path) -> None:
    node = pyxis_site.cluster.nodes["n1"]
    run(pyxis_site, "srun --container-name=pytorch true")
    arguments = [STATE, "/run/slurm-fsx", "/usr/local/bin/enroot", "2001", "4000000", "pyxis_4000000_many"]
    command = [str(core_tool), "prepare", *arguments, f"/fsx/containers/{IMAGE}.sqsh"]
    # AddressSanitizer would take the leak checker's time, too, in each child.
    env = {"ASAN_OPTIONS": "detect_leaks=0"}
    running = [node.start_process(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(32)]
    answers = [process.communicate(timeout=120) for process in running]
    assert sorted(out for out, _ in answers) == ["before\n"] * 31 + ["mounted\n"], answers
    assert len(mounts(pyxis_site)) == 1
    assert len(processes(pyxis_site, "squashfuse")) == 1
    # There is no such job: that is for cleanup, which says so first.
    done = pyxis_site.cluster.run_on("n1", [COMMAND, "containers", "cleanup", "--dry-run"])
    assert "would remove mounts of pyxis_4000000_many of user 2001" in done.stdout
    assert len(mounts(pyxis_site)) == 1
    for said in ("", NOTHING):
        done = pyxis_site.cluster.run_on("n1", [COMMAND, "containers", "cleanup"])
        assert (done.returncode, done.stderr) == (0, said)
    assert done.stdout == ""
    assert_nothing_is_left(pyxis_site)


def test_cleaning_up_reaches_a_mount_whose_user_has_closed_the_way_to_it(pyxis_site: Site, core_tool: Path) -> None:
    node = pyxis_site.cluster.nodes["n1"]
    run(pyxis_site, "srun --container-name=pytorch true")
    arguments = [STATE, "/run/slurm-fsx", "/usr/local/bin/enroot", "2001", "4000000", "pyxis_4000000_shut"]
    command = [str(core_tool), "prepare", *arguments, f"/fsx/containers/{IMAGE}.sqsh"]
    assert node.run(command, env={"ASAN_OPTIONS": "detect_leaks=0"}).returncode == 0
    assert len(mounts(pyxis_site)) == 1
    folder = data(pyxis_site)
    mode = folder.stat().st_mode & 0o777
    folder.chmod(0)
    try:
        done = pyxis_site.cluster.run_on("n1", [COMMAND, "containers", "cleanup"])
        assert (done.returncode, done.stderr) == (0, "")
        assert mounts(pyxis_site) == []
    finally:
        folder.chmod(mode)
        # As the user, it could not be removed, and it is the user's.
        (folder / "pyxis_4000000_shut").rmdir()
    assert_nothing_is_left(pyxis_site)


def test_cleaning_up_leaves_a_running_job_alone(pyxis_site: Site) -> None:
    job = start(pyxis_site, script="sleep 3; cat /etc/os-release")
    done = pyxis_site.cluster.run_on("n1", [COMMAND, "containers", "cleanup"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", NOTHING)
    assert pyxis_site.cluster.wait(job) == "COMPLETED"
    assert IMAGE in job.output
    assert_nothing_is_left(pyxis_site)


def test_a_copy_on_the_node_is_used_where_it_is_the_same(pyxis_site: Site) -> None:
    node = pyxis_site.cluster.nodes["n1"]
    pyxis_site.configure("containers: {stage: /var/scratch, stage_limit: 1 KiB}\n")
    node.run([COMMAND, "config", "check"])
    copy = f"/var/scratch/slurm-fsx-images/{IMAGE}.sqsh"
    node.run(["install", "-d", "-m", "0755", "/var/scratch/slurm-fsx-images"])
    node.run(["cp", "--preserve=all", f"/fsx/containers/{IMAGE}.sqsh", copy])

    def opened() -> str:
        job = start(pyxis_site, script="cat /etc/os-release; sleep 60")
        [server] = processes(pyxis_site, "squashfuse")
        link = node.run(["readlink", f"/proc/{server}/fd/3"]).stdout.strip()
        pyxis_site.cluster.wait_until(lambda: IMAGE in job.output, "the image's own file")
        pyxis_site.cluster.cancel(job)
        return link

    try:
        assert opened() == copy
        # Of the same size and date, and yet broken.
        node.run(["sh", "-c", f"printf hsqs > x; truncate -r {copy} x; touch -r {copy} x; cp -p x {copy}; rm x"])
        assert opened() == f"/fsx/containers/{IMAGE}.sqsh"
        node.run(["touch", copy])
        assert opened() == f"/fsx/containers/{IMAGE}.sqsh"
    finally:
        node.run(["rm", "-rf", "/var/scratch"])
    assert_nothing_is_left(pyxis_site)


def test_the_catalogue_knows_who_used_an_image(pyxis_site: Site) -> None:
    job = start(pyxis_site)
    mark = pyxis_site.cluster.fsx / f"containers/.slurm-fsx/uses/{IMAGE}.sqsh/lab.{job.id}"
    pyxis_site.cluster.wait_until(mark.exists, "the mark")
    assert mark.stat().st_uid == 0
    pyxis_site.cluster.cancel(job)


def test_a_user_who_names_an_image_elsewhere_gets_a_folder_for_it(pyxis_site: Site) -> None:
    pyxis_site.cluster.srun("--nodelist=n1", "--container-image=somewhere", "true", user="bob")
    folder = pyxis_site.cluster.fsx / "containers/.slurm-fsx/caches/2002"
    assert (folder.stat().st_uid, folder.stat().st_gid, folder.stat().st_mode & 0o777) == (2002, 2002, 0o700)
    assert (folder.parent.stat().st_uid, folder.parent.stat().st_mode & 0o777) == (0, 0o755)
    assert_nothing_is_left(pyxis_site)
