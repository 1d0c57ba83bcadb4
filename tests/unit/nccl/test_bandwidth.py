"""What nccl-tests print, in the shapes that its releases print it."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_fsx_tools.nccl.bandwidth import BandwidthTestFailed, Device, Report, Speed, check, parse


@pytest.fixture
def printed(checkout: Path):
    """Gives the text of a file of that name."""
    return lambda name: (checkout / "tests/data/nccl_tests" / f"{name}.txt").read_text()


def test_sizes_devices_and_average_are_read(printed) -> None:
    report = parse(printed("good"))
    assert [row.size_bytes for row in report.rows] == [8 << power for power in range(25)]
    assert report.rows[-1].out_of_place == Speed(2263.96, 59.28, 88.93, 0)
    assert report.rows[-1].in_place == Speed(2218.68, 60.49, 90.74, 0)
    assert report.top == 90.74
    assert report.devices[2] == Device(2, "n2", 0, "NVIDIA H100 80GB HBM3")
    assert (report.average, report.wrong, report.trouble) == (18.2271, 0, [])
    check(report, 4, printed("good"))


def test_an_older_release_prints_an_error_instead_of_a_count(printed) -> None:
    report = parse(printed("old-error-column"))
    assert len(report.rows) == 5
    assert report.rows[0].out_of_place.wrong is None
    assert [device.host for device in report.devices] == ["n1", "n2"]
    check(report, 2, "")


def test_wrong_values_are_counted(printed) -> None:
    report = parse(printed("wrong-values"))
    assert report.wrong == 2
    assert [row.in_place.wrong for row in report.rows] == [0, 3, None]


def test_a_run_that_failed_is_told_in_nccls_own_words(printed) -> None:
    text = printed("no-network")
    report = parse(text)
    assert len(report.trouble) == 3
    with pytest.raises(
        BandwidthTestFailed, match=r"nothing was measured: n2:4102:4130 .* NCCL WARN Failed to find a network"
    ):
        check(report, 4, text)


def test_tests_without_mpi_do_not_pass_for_one_test(printed) -> None:
    with pytest.raises(BandwidthTestFailed, match="2 tests ran side by side instead of one over 4 GPUs"):
        check(parse(printed("no-mpi")), 4, printed("no-mpi"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "nothing was measured: nothing", id="nothing"),
        pytest.param("hello\n\x1b[2Jbye\n\n", r"nothing was measured: \\x1b\[2Jbye", id="another program"),
        pytest.param(
            "all_reduce_perf: error while loading shared libraries: libnccl.so.2", "error while loading", id="linkage"
        ),
    ],
)
def test_what_is_no_table_measures_nothing(text: str, said: str) -> None:
    assert parse(text) == Report([], [], None, 0, [text] if "loading" in text else [])
    with pytest.raises(BandwidthTestFailed, match=said):
        check(parse(text), 2, text)


def test_lines_amid_the_table_are_passed_over(printed) -> None:
    lines = printed("good").splitlines()
    mixed = "\n".join(
        part for line in lines for part in (line, "slurmstepd: info 1 2 3", "8 2 float sum -1 x y z 0 1 2 3 4")
    )
    assert parse(mixed) == parse(printed("good"))
