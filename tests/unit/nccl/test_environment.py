from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_fsx_tools.cli.nccl.show import shell_line
from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.job import Job, Node
from slurm_fsx_tools.jobenv import HOST, LIBRARY, JobEnv, Operation, apply_operations
from slurm_fsx_tools.nccl.environment import Row, explain, nccl_operations, notes
from slurm_fsx_tools.nccl.installation import Installation
from slurm_fsx_tools.nccl.profiles import DOCUMENTED, profile_names, select_profile

if TYPE_CHECKING:
    from .conftest import Site

JOB = Job(id="7", uid=1000, user="ada", partition="gpu", node=Node("n1"))
INSTALLATION = Installation("/fsx/nccl", library_folders=["/fsx/nccl/lib"], version="v2.28.7-1")


def operations(installation: Installation | None = INSTALLATION, **values: object) -> list[Operation]:
    return nccl_operations(JOB, installation, Config({key.replace("__", "."): values[key] for key in values}))


def test_a_job_gets_the_documented_set() -> None:
    assert apply_operations(operations(), {}) == {
        "LD_LIBRARY_PATH": "/fsx/nccl/lib:/usr/local/lib",
        "LIBRARY_PATH": "/fsx/nccl/lib:/usr/local/lib",
        "FI_PROVIDER": "efa",
        "FI_EFA_USE_DEVICE_RDMA": "1",
        "NCCL_PROTO": "simple",
        "NCCL_DEBUG": "INFO",
        "NCCL_ALGO": "Ring",
        "NCCL_MIN_NRINGS": "8",
        "NCCL_VERSION": "v2.28.7-1",
    }


def test_what_the_user_set_wins_and_the_library_comes_before_the_users_folders() -> None:
    task = apply_operations(operations(), {"NCCL_DEBUG": "WARN", "NCCL_ALGO": "", "LD_LIBRARY_PATH": "/home/ada/lib"})
    assert task["NCCL_DEBUG"] == "WARN"
    assert task["NCCL_ALGO"] == ""
    assert task["LD_LIBRARY_PATH"] == "/fsx/nccl/lib:/usr/local/lib:/home/ada/lib"


@pytest.mark.parametrize(
    ("in_container", "scope"),
    [
        pytest.param("auto", LIBRARY, id="auto"),
        pytest.param("never", HOST, id="never"),
        pytest.param("always", "", id="always"),
    ],
)
def test_the_library_goes_into_containers_as_configured_and_the_tuning_always(in_container: str, scope: str) -> None:
    installation = INSTALLATION._replace(lists={"PATH": ["/fsx/nccl/bin"]}, variables={"FI_LOG_LEVEL": "warn"})
    scopes = {
        operation.name: operation.scope for operation in operations(installation, nccl__in_container=in_container)
    }
    library = {"LD_LIBRARY_PATH", "LIBRARY_PATH", "NCCL_VERSION", "PATH"}
    assert {scopes.pop(name) for name in library} == {scope}
    assert set(scopes.values()) == {""}


@pytest.mark.parametrize(
    ("nccl", "values"),
    [pytest.param("off", {}, id="by-the-user"), pytest.param("", {"nccl.enabled": False}, id="by-the-admin")],
)
def test_switched_off_is_nothing_and_no_look(site: Site, nccl: str, values: dict[str, object]) -> None:
    site.values.update(values)
    env = site.start(nccl)
    assert (list(env), env.notes, site.times_sourced) == ([], [], 0)


def test_no_installation_is_nothing(site: Site) -> None:
    site.script.unlink()
    env = site.start()
    assert (list(env), env.notes) == ([], [])


def test_what_the_script_exports_beyond_the_documented_set_is_taken_over(site: Site) -> None:
    site.install(
        f'export LD_LIBRARY_PATH="{site.nccl}/lib:/usr/local/lib:/opt/amazon/efa/lib:$LD_LIBRARY_PATH"\n'
        f'export LIBRARY_PATH="{site.nccl}/lib:/usr/local/lib:$LIBRARY_PATH" PATH="{site.nccl}/bin:$PATH"\n'
        "export NCCL_SOCKET_IFNAME=en NCCL_ALGO=Ring\n"
    )
    task = site.task(PATH="/bin")
    assert task["NCCL_SOCKET_IFNAME"] == "en"
    assert task["LD_LIBRARY_PATH"] == f"{site.nccl}/lib:/usr/local/lib:/opt/amazon/efa/lib"
    assert task["LIBRARY_PATH"] == f"{site.nccl}/lib:/usr/local/lib"
    assert task["PATH"] == f"{site.nccl}/bin:/bin"


def test_a_folder_of_the_library_is_never_in_one_operation_with_folders_of_elsewhere(site: Site) -> None:
    # In a container, an operation is left out if one of its folders on the shared file system cannot be seen.
    site.install(f"export LD_LIBRARY_PATH={site.fsx}/other/lib:{site.nccl}/lib")
    values = [operation.value for operation in site.start() if operation.name == "LD_LIBRARY_PATH"]
    assert values == [f"{site.fsx}/other/lib", f"{site.nccl}/lib:/usr/local/lib"]


def test_where_script_and_documented_set_differ_somebody_chose_the_scripts_value() -> None:
    installation = INSTALLATION._replace(variables={"NCCL_DEBUG": "WARN", "NCCL_ALGO": "Ring"})
    rows = {row.operation.name: row for row in explain(installation, Config())}
    assert rows["NCCL_DEBUG"].operation.value == "WARN"
    assert rows["NCCL_DEBUG"].source == "/fsx/nccl/setup-nccl-env.sh"
    assert "INFO" in rows["NCCL_DEBUG"].note
    assert rows["NCCL_ALGO"].source.startswith("https://")


def test_a_sites_default_counts_over_ours() -> None:
    env = JobEnv(operations())
    env.default("NCCL_DEBUG", "WARN")
    assert apply_operations(env, {})["NCCL_DEBUG"] == "WARN"


def test_an_unknown_profile_is_said_and_the_documented_one_is_used() -> None:
    config = Config({"nccl.profile": "documentd"}, path="/etc/slurm-fsx/config.yaml")
    assert nccl_operations(JOB, INSTALLATION, config) == operations()
    (note,) = notes(INSTALLATION, config)
    assert "nccl.profile in /etc/slurm-fsx/config.yaml is 'documentd'" in note


def test_variables_that_stop_the_plugins_tuner_are_said_once(site: Site) -> None:
    (site.nccl / "lib/libnccl-ofi-tuner.so").touch()
    (note,) = site.start().notes
    assert "NCCL_ALGO and NCCL_PROTO keep the tuner" in note
    assert f"{site.nccl}/lib/libnccl-ofi-tuner.so" in note
    assert "aws-ofi-nccl/issues/982" in note
    assert "nccl.profile in /etc/slurm-fsx/config.yaml" in note
    assert [site.start().notes, site.start().notes] == [[], []]
    site.install("export CHANGED=1")
    assert site.start().notes == [note]


def test_variables_that_jobs_do_not_get_are_said_once(site: Site) -> None:
    site.install("export LD_PRELOAD=/fsx/x.so HOME=/nobody")
    env = site.start()
    assert sorted(note.split()[4] for note in env.notes) == ["HOME", "LD_PRELOAD"]
    assert not {"LD_PRELOAD", "HOME"} & {operation.name for operation in env}
    assert site.start().notes == []


def test_a_prolog_that_finds_nothing_new_is_quick(site: Site) -> None:
    site.start()
    took = []
    for _ in range(5):
        began = time.monotonic()
        site.start()
        took.append(time.monotonic() - began)
    assert min(took) < 0.1


def test_every_row_says_why_and_where_that_can_be_read() -> None:
    for row in explain(INSTALLATION._replace(variables={"A": "1"}, lists={"PATH": ["/x"]}), Config()):
        assert row.why
        assert row.source.startswith(("https://", "/fsx/nccl"))


SITE = Config({"nccl.profiles": {"quiet": {"NCCL_DEBUG": "WARN"}}, "nccl.fail_fast": True})


@pytest.mark.parametrize("name", profile_names(SITE))
def test_a_profile_is_called_by_its_name_and_gives_a_variable_once(name: str) -> None:
    profile = select_profile(name, SITE)
    assert profile.name == name
    assert len({variable.name for variable in profile.variables}) == len(profile.variables)
    assert select_profile("", Config()) is DOCUMENTED


text = st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]))


@settings(max_examples=40, deadline=None)
@given(text, text, st.none() | text)
def test_what_a_shell_evaluates_is_what_a_task_gets(value: str, folder: str, before: str | None) -> None:
    entry = "/" + folder.replace(":", "")
    rows = [Operation("default", "A_VALUE", value), Operation("prepend", "A_LIST", entry)]
    lines = "".join(shell_line(Row(row, "a reason", "a source"), explained=True) for row in rows)
    environment = {} if before is None else {"A_VALUE": before}
    result = subprocess.run(
        ["/bin/sh", "-euc", 'eval "$1"; printf "%s\\0%s" "$A_VALUE" "$A_LIST"', "sh", lines],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    expected = apply_operations(rows, environment)
    assert result.stdout.decode().split("\0") == [expected["A_VALUE"], expected["A_LIST"]]
