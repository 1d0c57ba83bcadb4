from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slurm_fsx_tools.config.model import PROFILES, Config
from slurm_fsx_tools.jobenv import is_variable_name
from slurm_fsx_tools.nccl.conditions import Facts
from slurm_fsx_tools.nccl.page import format_page
from slurm_fsx_tools.nccl.profiles import profile_names, select_profile
from slurm_fsx_tools.nccl.variables import BY_NAME, NETWORK, VARIABLES

if TYPE_CHECKING:
    from .conftest import Site

PAGE = Path(__file__).parents[3] / "docs/nccl-variables.md"
CURRENT = Facts(nccl="2.28.7-1", ofi="1.17.2-aws", libfabric="2.1.0")


def auto(facts: Facts) -> dict[str, str]:
    return {given.name: given.value for given in select_profile("auto", Config(), facts).variables}


@pytest.mark.parametrize("instance", ["", "p4d.24xlarge", "p5.48xlarge", "p5en.48xlarge", "p6-b200.48xlarge"])
def test_auto_gives_current_versions_nothing(instance: str) -> None:
    assert auto(CURRENT._replace(instance=instance)) == {}


def test_auto_gives_old_versions_what_they_need() -> None:
    old = Facts(nccl="2.12.7-1", ofi="1.5.0-aws", libfabric="1.16.1", instance="p4d.24xlarge")
    assert auto(old) == {"FI_PROVIDER": "efa", "NCCL_PROTO": "simple", "FI_EFA_USE_DEVICE_RDMA": "1"}
    assert "FI_EFA_USE_DEVICE_RDMA" not in auto(old._replace(instance="g5.48xlarge"))
    assert auto(Facts(nccl="2.20.5-1", ofi="1.9.1-aws")) == {"NCCL_TUNER_PLUGIN": "libnccl-ofi-tuner.so"}


def test_auto_gives_gpus_without_nvlink_what_they_need() -> None:
    assert auto(CURRENT._replace(instance="g5.48xlarge")) == {"NCCL_SHM_USE_CUDA_MEMCPY": "1"}


@pytest.mark.parametrize("ofi", ["", "1.5.0", "1.7.0", "1.12.0", "1.16.0", "1.17.2-aws"])
@pytest.mark.parametrize("libfabric", ["", "1.16", "1.18", "2.1"])
@pytest.mark.parametrize("instance", ["", "p3dn.24xlarge", "p4d.24xlarge", "p5.48xlarge", "g5.48xlarge", "g6.48xlarge"])
def test_auto_never_gives_what_the_table_calls_harmful(ofi: str, libfabric: str, instance: str) -> None:
    for nccl in ("", "2.12", "2.19.3", "2.20", "2.28"):
        facts = Facts(nccl, ofi, libfabric, instance)
        for name, value in auto(facts).items():
            assert BY_NAME[name].harm(value, facts) is None


def test_auto_gives_each_job_today_s_name_of_what_somebody_chose_by_an_old_one(site: Site) -> None:
    site.values["nccl.profile"] = "auto"
    site.install("export NCCL_MIN_NRINGS=16")
    task = site.task()
    assert (task["NCCL_MIN_NCHANNELS"], task.get("NCCL_MIN_NRINGS")) == ("16", None)
    site.install("export NCCL_MIN_NRINGS=16 NCCL_MIN_NCHANNELS=4")
    assert site.task()["NCCL_MIN_NCHANNELS"] == "4"
    # The documented number is nobody's choice.
    site.install("export NCCL_MIN_NRINGS=8 NCCL_ALGO=Ring")
    assert set(site.task()) == {"LD_LIBRARY_PATH", "LIBRARY_PATH", "NCCL_VERSION"}
    site.values["nccl.profile"] = "documented"
    assert site.task()["NCCL_MIN_NRINGS"] == "8"


def test_minimal_is_the_library_alone(site: Site) -> None:
    assert set(apply(site, "minimal")) == {"LD_LIBRARY_PATH", "LIBRARY_PATH", "NCCL_VERSION"}


def apply(site: Site, nccl: str) -> dict[str, str]:
    from slurm_fsx_tools.jobenv import apply_operations

    return apply_operations(site.start(nccl), {})


def test_a_job_can_choose_a_profile_of_the_site(site: Site) -> None:
    site.values["nccl.profiles"] = {"fast": {"NCCL_BUFFSIZE": "8388608", "NCCL_DEBUG": "WARN"}}
    task = apply(site, "fast")
    assert (task["NCCL_BUFFSIZE"], task["NCCL_DEBUG"], task.get("FI_PROVIDER")) == ("8388608", "WARN", None)
    assert site.task()["NCCL_DEBUG"] == "INFO"


def test_a_sites_profile_says_what_is_known_of_its_variables() -> None:
    config = Config({"nccl.profiles": {"fast": {"NCCL_ALGO": "Ring", "MINE": "1"}}}, path="/etc/c.yaml")
    algo, mine = select_profile("fast", config, CURRENT).variables
    assert "issues/982" in algo.caveat
    assert algo.source == mine.source == "nccl.profiles.fast in /etc/c.yaml"
    assert not mine.caveat


@pytest.mark.parametrize("name", [*PROFILES, "fast"])
def test_fail_fast_adds_the_network_to_every_profile_as_the_plugin_spells_it(name: str) -> None:
    config = Config({"nccl.profiles": {"fast": {"NCCL_NET": "Socket"}}, "nccl.fail_fast": True})
    given = {variable.name: variable.value for variable in select_profile(name, config).variables}
    assert given["NCCL_NET"] == NETWORK == "AWS Libfabric"
    assert BY_NAME["NCCL_NET"].harm(NETWORK, CURRENT) is None


def test_fail_fast_reaches_a_task_without_quotes(site: Site) -> None:
    site.values["nccl.fail_fast"] = True
    assert site.task()["NCCL_NET"] == "AWS Libfabric"


def test_every_name_is_a_profile_or_a_word_of_ours() -> None:
    assert profile_names(Config()) == PROFILES


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_every_variable_has_a_purpose_and_sources(variable: object) -> None:
    from slurm_fsx_tools.nccl.variables import Variable

    assert isinstance(variable, Variable)
    assert is_variable_name(variable.name)
    assert variable.purpose
    assert variable.source.startswith("https://")
    assert variable.needs or variable.harms or variable.advice
    for part in (*variable.needs, *variable.harms):
        assert part.why
        assert part.source.startswith("https://")
    assert not variable.new_name or variable.new_name != variable.name


def test_a_variable_stands_in_the_table_once() -> None:
    assert len(BY_NAME) == len(VARIABLES)


def test_the_page_is_what_the_table_says() -> None:
    assert PAGE.read_text() == format_page(), "run: slurm-fsx nccl variables >docs/nccl-variables.md"
