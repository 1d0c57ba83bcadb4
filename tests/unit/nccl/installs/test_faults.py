"""What goes wrong under way: killed installs, two at once, a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.processes import working_in
from slurm_fsx_tools.errors import InstallFailed, LockTimeout, NoSpace
from slurm_fsx_tools.nccl.installs.building import StepFailed
from slurm_fsx_tools.nccl.installs.installing import build_environment, install
from slurm_fsx_tools.nccl.installs.preflight import ERROR, examine
from slurm_fsx_tools.nccl.installs.request import Request
from slurm_fsx_tools.nccl.installs.sources import Part, parse_source
from slurm_fsx_tools.nccl.installs.tools import find_tools
from slurm_fsx_tools.programs import Programs, StopSign

from .conftest import Place, wait_for


class Silent:
    """Says nothing."""

    def begin(self, step: str, log: str) -> None: ...

    def say(self, line: str) -> None: ...

    def end(self, step: str, seconds: float) -> None: ...

    def skip(self, step: str) -> None: ...


@pytest.mark.parametrize("step", ["nccl", "ofi", "tests", "install"])
def test_an_install_killed_in_a_step_goes_on_there_and_leaves_the_current_version(place: Place, step: str) -> None:
    assert place.install("--gencode=sm_80").exit_code == 0
    before = place.current
    (place.control / "steps").unlink()
    (place.control / f"wait-{step}").touch()
    with place.begin() as process:
        wait_for(lambda: step in place.steps)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert place.current == before
    if os.geteuid() == 0:  # then what make has started dies with us, too
        wait_for(lambda: not working_in(place.root))
    (place.control / f"wait-{step}").unlink()
    done = place.install()
    assert done.exit_code == 0, done
    assert place.current != before
    order = ["nccl", "ofi", "tests", "install"]
    assert place.steps == [*order[: order.index(step) + 1], *order[order.index(step) :]]


def test_an_install_killed_while_it_fetches_goes_on(place: Place) -> None:
    place.write("nccl", {f"many/{number}": "x" for number in range(8000)})
    with place.begin() as process:
        wait_for(lambda: list(place.root.glob(".staging/*/src/nccl.part")))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not list(place.root.glob(".staging/*/done/fetch"))
    assert place.install().exit_code == 0
    assert not list(place.root.glob(".staging/*/src"))


def test_an_interrupted_install_ends_its_programs(place: Place) -> None:
    (place.control / "wait-nccl").touch()
    with place.begin() as process:
        wait_for(lambda: "nccl" in place.steps)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate()
    assert process.returncode == 130
    assert "interrupted" in said
    assert not working_in(place.root)


def test_the_second_of_two_installs_is_told_who_and_ends_or_waits(place: Place) -> None:
    (place.control / "wait-nccl").touch()
    with place.begin() as first:
        wait_for(lambda: "nccl" in place.steps)
        refused = place.install("--no-wait")
        assert isinstance(refused.exception, LockTimeout)
        assert f"process {first.pid} on {os.uname().nodename} is installing" in str(refused.exception)
        assert f"process {first.pid} on {os.uname().nodename} installs since" in refused.stderr
        with place.begin() as second:
            assert second.stdout is not None
            lines = iter(second.stdout.readline, "")
            assert any(f"waiting for process {first.pid} on" in line for line in lines)
            (place.control / "wait-nccl").unlink()
            assert first.wait() == 0
            said, _ = second.communicate()
            assert second.returncode == 0
            assert "there already" in said
    assert place.steps == ["nccl", "ofi", "tests", "install"]


@pytest.fixture
def small_disk(place: Place, needs_root: None) -> Iterator[Place]:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", place.fsx], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount")
    yield place
    subprocess.run(["umount", "--lazy", place.fsx], check=True)


def request_of(place: Place) -> Request:
    sources = {part: parse_source(str(place.sources / part)) for part in ("nccl", "ofi", "tests")}
    return Request(
        root=str(place.root),
        logs=str(place.fsx / "logs/nccl"),
        nccl=Part("2.28.7-1", sources["nccl"]),
        ofi=Part("1.17.2-aws", sources["ofi"]),
        ofi_folder="",
        tests=None,
        tools=find_tools(str(place.folder / "cuda"), str(place.folder / "efa")),
        architectures=("sm_90",),
        machine="x86_64",
    )


@pytest.mark.parametrize("step", ["fetch", "ofi"])
def test_a_full_disk_is_told_as_one(small_disk: Place, step: str) -> None:
    place = small_disk
    if step == "fetch":
        place.write("nccl", {"big": "x" * (20 << 20)})
    else:
        (place.control / "fill-ofi").touch()
    request = request_of(place)
    programs = Programs(build_environment(os.environ, request.tools.cuda_home, ""), StopSign())
    with pytest.raises(NoSpace, match="is full"):
        install(request, programs, Silent())
    assert not list(place.root.glob("versions/*"))


def test_too_little_room_is_seen_before(small_disk: Place) -> None:
    done = small_disk.install()
    assert isinstance(done.exception, InstallFailed)
    assert "error: space: " in done.stderr
    programs = Programs(build_environment(os.environ, "", ""), StopSign())
    assert not [each for each in examine(request_of(small_disk), programs, 1 << 20) if each.level == ERROR]


def test_a_step_says_where_its_log_is(place: Place) -> None:
    (place.control / "fail-nccl").touch()
    request = request_of(place)
    programs = Programs(build_environment(os.environ, request.tools.cuda_home, ""), StopSign())
    with pytest.raises(StepFailed) as failed:
        install(request, programs, Silent())
    assert failed.value.log.endswith("/nccl.log")
    assert "error: broken in nccl" in failed.value.lines
    assert "error: broken in nccl" in Path(failed.value.log).read_text()
