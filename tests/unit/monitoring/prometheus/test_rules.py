"""Every recording rule as Prometheus evaluates it, on what nodes really send: awkward cases first."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab.promtool import RuleTests
from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.monitoring.prometheus.configuration import PrometheusSetup
from slurm_fsx_tools.monitoring.prometheus.rules import recording_rules

# What Prometheus adds to each series, from the node's file of targets.
N1 = 'cluster="lab", exporter="node_exporter", instance="n1:9100", job="slurm-fsx"'
HEAD = 'cluster="lab", exporter="node_exporter", instance="head:9100", job="slurm-fsx-head", node="head"'
DCGM = 'cluster="lab", exporter="dcgm-exporter", instance="n1:9400", job="slurm-fsx", node="n1", partition="gpu"'
WORDS = 'container="pytorch", gpus="0,1", node="n1", partition="gpu"'

A, B = "GPU-aaaa", "GPU-bbbb"


@pytest.fixture
def rules(tmp_path: Path) -> RuleTests:
    """The rules of a cluster with the default configuration."""
    if not shutil.which("promtool"):
        pytest.skip("needs promtool, of Debian's package prometheus")
    return RuleTests(tmp_path, PrometheusSetup(Config(), cluster="lab", head="head").format_rules())


def job(jobid: int, account: str = "ml", name: str = "train", at: str = N1) -> str:
    words = f'jobid="{jobid}", user="ada", account="{account}", job_name="{name}", {WORDS}'
    return f"slurm_fsx_job_info{{{words}, {at}}}"


def of_head(jobid: int, account: str = "ml", name: str = "train") -> str:
    return (
        f'slurm_fsx_cluster_job_info{{jobid="{jobid}", user="ada", account="{account}", partition="gpu",'
        f' job_name="{name}", state="RUNNING", nodes="n1", gpus="2", {HEAD}}}'
    )


def gpu_of(jobid: int, gpu: int | str, uuid: str, account: str = "ml", user: str = "ada") -> str:
    return (
        f'slurm_fsx_job_gpu_info{{jobid="{jobid}", user="{user}", account="{account}", node="n1", gpu="{gpu}",'
        f' UUID="{uuid}", partition="gpu", {N1}}}'
    )


def dcgm(metric: str, gpu: int, uuid: str, more: str = "") -> str:
    return f'DCGM_FI_DEV_{metric}{{gpu="{gpu}", UUID="{uuid}", device="nvidia{gpu}", Hostname="n1", {DCGM}{more}}}'


def info(jobid: int, account: str = "ml", name: str = "train") -> str:
    words = [f'jobid="{jobid}"', 'user="ada"', *([f'account="{account}"'] if account else [])]
    words += [f'job_name="{name}"'] if name else []
    return f'slurm_fsx:job_info{{cluster="lab", {", ".join(words)}, {WORDS}}}'


def by_gpu(record: str, jobid: int, gpu: int | str, uuid: str, account: str = "ml", user: str = "ada") -> str:
    words = [f'jobid="{jobid}"', f'user="{user}"', f'gpu="{gpu}"', 'node="n1"', 'cluster="lab"']
    words += [f'account="{account}"'] if account else []
    words += [f'UUID="{uuid}"'] if uuid else []
    return f"slurm_fsx:{record}{{{', '.join(words)}}}"


def test_a_job_is_one_series_whatever_its_scrape_adds(rules: RuleTests) -> None:
    assert not rules.answer({job(17): "1x20"}, {"slurm_fsx:job_info": {info(17): 1}})


def test_two_jobs_on_a_node_are_two(rules: RuleTests) -> None:
    series = {job(17): "1x20", job(18, name="eval"): "1x20"}
    assert not rules.answer(
        series,
        {
            "slurm_fsx:job_info": {info(17): 1, info(18, name="eval"): 1},
            "slurm_fsx:node_jobs": {'slurm_fsx:node_jobs{cluster="lab", node="n1"}': 2},
        },
    )


def test_a_job_that_ends_is_gone_with_the_next_evaluation(rules: RuleTests) -> None:
    series = {job(17): "1x9 stale", gpu_of(17, 0, A): "1x9 stale", dcgm("GPU_UTIL", 0, A): "50x20"}
    before = {"slurm_fsx:job_info": {info(17): 1}, "count(slurm_fsx:job_gpu_utilization)": {"{}": 1}}
    assert not rules.answer(series, before, at="9m")
    after = {name: {} for name in ("slurm_fsx:job_info", "slurm_fsx:job_gpu_utilization", "slurm_fsx:node_jobs")}
    assert not rules.answer(series, after, at="10m")


def test_what_a_prolog_of_22_05_does_not_know_is_taken_from_the_head_node(rules: RuleTests) -> None:
    series = {job(17, account="", name=""): "1x20", of_head(17): "1x20", of_head(18, "bio", "fold"): "1x20"}
    assert not rules.answer(series, {"slurm_fsx:job_info": {info(17): 1}})


def test_until_the_head_node_tells_of_a_job_it_is_there_without_account_and_name(rules: RuleTests) -> None:
    series = {job(17, account="", name=""): "1x20", of_head(17): "_x10 1x10"}
    assert not rules.answer(series, {"slurm_fsx:job_info": {info(17, "", ""): 1}}, at="9m")
    assert not rules.answer(series, {"slurm_fsx:job_info": {info(17): 1}}, at="15m")


def test_a_site_without_accounts_still_has_names(rules: RuleTests) -> None:
    series = {job(17, account="", name=""): "1x20", of_head(17, account=""): "1x20"}
    assert not rules.answer(series, {"slurm_fsx:job_info": {info(17, ""): 1}})


def test_two_head_nodes_that_tell_of_one_job_do_not_break_the_others(rules: RuleTests) -> None:
    series = {
        job(17, account="", name=""): "1x20",
        job(18, account="", name=""): "1x20",
        of_head(17): "1x20",
        of_head(17, name="changed"): "1x20",
        of_head(17).replace("head:9100", "head2:9100"): "1x20",
        of_head(18, "bio", "fold"): "1x20",
    }
    expected = {
        'count by (jobid) (slurm_fsx:job_info{account!="", job_name!=""})': {'{jobid="17"}': 1, '{jobid="18"}': 1},
        'slurm_fsx:job_info{jobid="18"}': {info(18, "bio", "fold"): 1},
    }
    assert not rules.answer(series, expected)


def test_a_machine_that_is_scraped_twice_counts_once(rules: RuleTests) -> None:
    twice = N1.replace('job="slurm-fsx"', 'job="slurm-fsx-head"').replace("n1:9100", "127.0.0.1:9100")
    again = 'node_memory_MemTotal_bytes{node="n1", partition="gpu", instance_type="", '
    series = {
        job(17): "1x20",
        job(17, at=twice): "1x20",
        f"{again}{N1}}}": "100x20",
        f"{again}{twice}}}": "100x20",
        f"{again.replace('Total', 'Available')}{N1}}}": "75x20",
        f"{again.replace('Total', 'Available')}{twice}}}": "75x20",
    }
    expected = {
        "slurm_fsx:job_info": {info(17): 1},
        "slurm_fsx:node_memory_utilization": {
            'slurm_fsx:node_memory_utilization{cluster="lab", node="n1", partition="gpu"}': 0.25
        },
        "slurm_fsx:job_memory_utilization": {
            'slurm_fsx:job_memory_utilization{cluster="lab", node="n1", jobid="17", user="ada", account="ml"}': 0.25
        },
    }
    assert not rules.answer(series, expected)


def test_jobs_with_one_id_on_two_clusters_stay_apart(rules: RuleTests) -> None:
    other = {name.replace('cluster="lab"', 'cluster="two"'): "1x20" for name in (job(17, "", ""), of_head(17, "x"))}
    series = {job(17, account="", name=""): "1x20", of_head(17, "ml"): "1x20", **other}
    expected = {
        "slurm_fsx:job_info": {info(17): 1, info(17, "x").replace('cluster="lab"', 'cluster="two"'): 1},
    }
    assert not rules.answer(series, expected)


def test_which_job_uses_a_gpu_at_what_utilisation_is_one_query(rules: RuleTests) -> None:
    series = {
        job(17): "1x20",
        gpu_of(17, 0, A): "1x20",
        dcgm("GPU_UTIL", 0, A): "87x20",
        dcgm("GPU_UTIL", 1, B): "3x20",
    }
    expected = {
        f'slurm_fsx:job_gpu_utilization{{UUID="{A}"}}': {by_gpu("job_gpu_utilization", 17, 0, A): 0.87},
        f'slurm_fsx:job_gpu_utilization{{UUID="{B}"}}': {},
    }
    assert not rules.answer(series, expected)


def test_jobs_that_share_a_gpu_each_show_it_and_count_a_part_of_it(rules: RuleTests) -> None:
    series = {
        job(17): "1x20",
        job(18): "1x20",
        gpu_of(17, 0, A): "1x20",
        gpu_of(18, 0, A): "1x20",
        gpu_of(18, 1, B): "1x20",
        dcgm("GPU_UTIL", 0, A): "60x20",
        dcgm("GPU_UTIL", 1, B): "10x20",
    }
    gpus = 'slurm_fsx:job_gpus{cluster="lab", jobid="%s", user="ada", account="ml"}'
    expected = {
        "slurm_fsx:job_gpu_utilization": {
            by_gpu("job_gpu_utilization", 17, 0, A): 0.6,
            by_gpu("job_gpu_utilization", 18, 0, A): 0.6,
            by_gpu("job_gpu_utilization", 18, 1, B): 0.1,
        },
        "slurm_fsx:gpu_jobs": {
            f'slurm_fsx:gpu_jobs{{cluster="lab", node="n1", gpu="0", UUID="{A}"}}': 2,
            f'slurm_fsx:gpu_jobs{{cluster="lab", node="n1", gpu="1", UUID="{B}"}}': 1,
        },
        "slurm_fsx:job_gpus": {gpus % 17: 0.5, gpus % 18: 1.5},
    }
    assert not rules.answer(series, expected)


def test_dcgm_exporters_label_for_jobs_does_not_double_a_gpu(rules: RuleTests) -> None:
    series = {
        job(17): "1x20",
        gpu_of(17, 0, A): "1x20",
        dcgm("GPU_UTIL", 0, A, ', hpc_job="17"'): "40x20",
        dcgm("GPU_UTIL", 0, A, ', hpc_job="18"'): "40x20",
    }
    assert not rules.answer(series, {"slurm_fsx:job_gpu_utilization": {by_gpu("job_gpu_utilization", 17, 0, A): 0.4}})


def test_a_gpu_without_a_known_uuid_is_found_by_its_index(rules: RuleTests) -> None:
    series = {job(17): "1x20", gpu_of(17, 1, ""): "1x20", dcgm("GPU_UTIL", 1, B): "20x20"}
    assert not rules.answer(series, {"slurm_fsx:job_gpu_utilization": {by_gpu("job_gpu_utilization", 17, 1, ""): 0.2}})


def test_a_gpu_is_found_by_its_uuid_where_its_index_differs(rules: RuleTests) -> None:
    series = {
        job(17): "1x20",
        gpu_of(17, 0, B): "1x20",
        dcgm("GPU_UTIL", 0, A): "90x20",
        dcgm("GPU_UTIL", 1, B): "20x20",
    }
    assert not rules.answer(series, {"slurm_fsx:job_gpu_utilization": {by_gpu("job_gpu_utilization", 17, 0, B): 0.2}})


def test_a_job_on_a_part_of_a_gpu_shows_that_part(rules: RuleTests) -> None:
    series = {
        job(17): "1x20",
        gpu_of(17, "0.1", A): "1x20",
        dcgm("FB_USED", 0, A, ', GPU_I_ID="1", GPU_I_PROFILE="1g.10gb"'): "1024x20",
        dcgm("FB_USED", 0, A, ', GPU_I_ID="2", GPU_I_PROFILE="1g.10gb"'): "4096x20",
        dcgm("GPU_UTIL", 0, A)
        .replace("DEV_GPU_UTIL", "PROF_GR_ENGINE_ACTIVE")
        .replace("}", ', GPU_I_ID="1"}'): "0.5x20",
        dcgm("GPU_UTIL", 0, A).replace("DEV_GPU_UTIL", "PROF_GR_ENGINE_ACTIVE").replace("}", ', GPU_I_ID="2"}'): "1x20",
    }
    expected = {
        "slurm_fsx:job_gpu_memory_used_bytes": {by_gpu("job_gpu_memory_used_bytes", 17, "0.1", A): 1 << 30},
        "slurm_fsx:job_gpu_utilization": {by_gpu("job_gpu_utilization", 17, "0.1", A): 0.5},
    }
    assert not rules.answer(series, expected)


def test_gpus_have_their_jobs_account_on_22_05(rules: RuleTests) -> None:
    series = {
        job(17, account="", name=""): "1x20",
        of_head(17, "bio", "fold"): "1x20",
        gpu_of(17, 0, A, account=""): "1x20",
    }
    assert not rules.answer(series, {"slurm_fsx:job_gpu_info": {by_gpu("job_gpu_info", 17, 0, A, "bio"): 1}})


def test_gpus_of_a_job_whose_own_series_is_missing_are_there(rules: RuleTests) -> None:
    assert not rules.answer(
        {gpu_of(17, 0, A): "1x20"}, {"slurm_fsx:job_gpu_info": {by_gpu("job_gpu_info", 17, 0, A): 1}}
    )


@pytest.mark.parametrize(
    ("record", "metric", "value", "expected"),
    [
        pytest.param("job_gpu_memory_used_bytes", "FB_USED", "1024", 1 << 30, id="memory"),
        pytest.param("job_gpu_power_watts", "POWER_USAGE", "412.5", 412.5, id="power"),
        pytest.param("job_gpu_temperature_celsius", "GPU_TEMP", "61", 61, id="temperature"),
    ],
)
def test_other_figures_of_a_jobs_gpus(rules: RuleTests, record: str, metric: str, value: str, expected: float) -> None:
    series = {job(17): "1x20", gpu_of(17, 0, A): "1x20", dcgm(metric, 0, A): f"{value}x20"}
    assert not rules.answer(series, {f"slurm_fsx:{record}": {by_gpu(record, 17, 0, A): expected}})


def test_every_job_of_a_node_shows_the_nodes_processors(rules: RuleTests) -> None:
    cpu = f'node_cpu_seconds_total{{node="n1", partition="gpu", {N1}, '
    # Of two processors one is busy all the time; the other waits for a disk, or for nothing.
    series = {
        job(17): "1x40",
        job(18): "1x40",
        f'{cpu}cpu="0", mode="idle"}}': "0+0x40",
        f'{cpu}cpu="0", mode="iowait"}}': "0+0x40",
        f'{cpu}cpu="0", mode="user"}}': "0+15x40",
        f'{cpu}cpu="1", mode="idle"}}': "0+7.5x40",
        f'{cpu}cpu="1", mode="iowait"}}': "0+7.5x40",
        f'{cpu}cpu="1", mode="user"}}': "0+0x40",
    }
    of_job = 'slurm_fsx:job_cpu_utilization{cluster="lab", node="n1", jobid="%s", user="ada", account="ml"}'
    expected = {
        "slurm_fsx:node_cpu_utilization": {
            'slurm_fsx:node_cpu_utilization{cluster="lab", node="n1", partition="gpu"}': 0.5
        },
        "slurm_fsx:job_cpu_utilization": {of_job % 17: 0.5, of_job % 18: 0.5},
    }
    assert not rules.answer(series, expected, at="5m", interval="15s")
    # Known from its second sample on, and not taken for busy because the first is not long ago.
    assert not rules.answer(series, expected, at="15s", interval="15s")


def test_nodes_are_counted_once_and_the_head_node_is_none(rules: RuleTests) -> None:
    up = 'up{cluster="lab", exporter="%s", job="%s", node="%s", instance="%s"}'
    series = {
        up % ("node_exporter", "slurm-fsx", "n1", "n1:9100"): "1x20",
        up % ("dcgm-exporter", "slurm-fsx", "n1", "n1:9400"): "1x20",
        up % ("node_exporter", "slurm-fsx", "n2", "n2:9100"): "0x20",
        up % ("node_exporter", "slurm-fsx-head", "head", "head:9100"): "1x20",
        f"slurm_fsx_registered_nodes{{{HEAD}}}": "2x20",
    }
    expected = {
        "slurm_fsx:scraped_nodes": {'slurm_fsx:scraped_nodes{cluster="lab"}': 2},
        "slurm_fsx:registered_nodes": {'slurm_fsx:registered_nodes{cluster="lab"}': 2},
    }
    assert not rules.answer(series, expected)


def test_every_rule_is_tried_here() -> None:
    with open(__file__, encoding="utf-8") as file:
        text = file.read()
    tried = [rule.record for rule in recording_rules(60) if rule.record in text or f'"{rule.record[10:]}"' in text]
    assert tried == [rule.record for rule in recording_rules(60)]
