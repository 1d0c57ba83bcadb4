from __future__ import annotations

import os
import time

import pytest

from slurm_fsx_tools.errors import SharedFsUnavailable, SlurmFsxError
from slurm_fsx_tools.shared_fs import SharedFs


@pytest.mark.parametrize(
    "answer", [None, True, "text", [1, 2], {"a": "b" * 300_000}], ids=lambda value: type(value).__name__
)
def test_a_look_gives_what_the_function_returned(answer: object) -> None:
    assert SharedFs("/fsx", 5).look(lambda: answer) == answer


def test_an_error_of_the_file_system_comes_back_as_it_was() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        SharedFs("/fsx", 5).look(lambda: os.stat("/fsx-that-is-not-there"))
    assert caught.value.filename == "/fsx-that-is-not-there"


def test_an_error_of_ours_keeps_its_hint() -> None:
    def fail() -> None:
        raise SlurmFsxError("it broke", hint="mend it")

    with pytest.raises(SlurmFsxError, match="it broke; mend it"):
        SharedFs("/fsx", 5).look(fail)


def test_a_mistake_in_the_function_is_told_to_who_asked() -> None:
    with pytest.raises(SlurmFsxError, match=r"ZeroDivisionError: .*by zero; report this"):
        SharedFs("/fsx", 5).look(lambda: 1 / 0)


def test_a_look_that_crashes_is_an_error_not_an_answer() -> None:
    with pytest.raises(SlurmFsxError, match="without an answer"):
        SharedFs("/fsx", 5).look(lambda: os.kill(os.getpid(), 9))


def test_a_look_that_hangs_is_left_behind_and_nobody_looks_again() -> None:
    shared_fs = SharedFs("/fsx", 0.1)
    with pytest.raises(SharedFsUnavailable, match=r"did not answer within 0\.1 s"):
        shared_fs.look(lambda: time.sleep(60))
    with pytest.raises(SharedFsUnavailable, match="did not answer before"):
        shared_fs.look(lambda: True)


def test_a_process_that_lives_long_looks_again_once_whoever_hung_has_ended() -> None:
    shared_fs = SharedFs("/fsx", 0.1)
    with pytest.raises(SharedFsUnavailable):
        shared_fs.look(lambda: time.sleep(60))
    end_s = time.monotonic() + 60
    while True:  # the child dies of its signal; one that hangs in the kernel is tried in tests/cluster
        shared_fs.try_again()
        try:
            assert shared_fs.look(lambda: True)
            break
        except SharedFsUnavailable:
            assert time.monotonic() < end_s
            time.sleep(0.01)


def test_what_a_look_prints_goes_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    SharedFs("/fsx", 5).look(lambda: os.system("echo noise; echo noise >&2"))
    assert capfd.readouterr() == ("", "")
