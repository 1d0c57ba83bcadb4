"""Every alert as Prometheus evaluates it: when it fires, and when it must not."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from lab.promtool import RuleTests
from slurm_fsx_tools.cli.containers import containers
from slurm_fsx_tools.cli.monitoring import monitoring
from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.monitoring.prometheus.alerts import APPLICATION_XIDS, Alert, alerts
from slurm_fsx_tools.monitoring.prometheus.configuration import PrometheusSetup

N1 = 'cluster="lab", node="n1", job="slurm-fsx"'
NODE = f'{N1}, exporter="node_exporter", instance="n1:9100"'
DCGM = f'{N1}, exporter="dcgm-exporter", instance="n1:9400"'
GPU = f'{DCGM}, gpu="0", UUID="GPU-aaaa"'
HEAD = 'cluster="lab", node="head", job="slurm-fsx-head", exporter="node_exporter", instance="head:9100"'

ON_GPU = 'cluster="lab", node="n1", gpu="0", UUID="GPU-aaaa"'
ON_NODE = 'cluster="lab", node="n1"'
ON_CLUSTER = 'cluster="lab"'

SYNCED = {
    f"slurm_fsx_sync_success{{{HEAD}}}": "1x120",
    f"slurm_fsx_sync_timestamp_seconds{{{HEAD}}}": "0+60x120",
}
SCRAPED = {f"up{{{NODE}}}": "1x60", f"up{{{NODE.replace('n1', 'n2')}}}": "1x60"}


@pytest.fixture
def rules(tmp_path: Path) -> RuleTests:
    """The rules of a cluster with the default configuration."""
    if not shutil.which("promtool"):
        pytest.skip("needs promtool, of Debian's package prometheus")
    return RuleTests(tmp_path, PrometheusSetup(Config(), cluster="lab", head="head").format_rules())


class Case(NamedTuple):
    """Samples, one a minute, and what fires of them."""

    id: str
    alert: str
    series: dict[str, str]
    at: str
    fires: tuple[str, ...]  # the labels of each, but for name and severity
    severity: str = "warning"


def in_job(jobid: int, utilisation: str, minutes: int, account: str = "ml", gpu: int = 0) -> dict[str, str]:
    """A job of ada's on n1 that has run for some minutes at the first sample."""
    job = f'jobid="{jobid}"'
    words = f'{job}, user="ada", account="{account}"'
    return {
        f'slurm_fsx_job_info{{{words}, job_name="x", gpus="0", {NODE}}}': "1x60",
        f'slurm_fsx_job_gpu_info{{{words}, gpu="{gpu}", UUID="GPU-{gpu}", {NODE}}}': "1x60",
        f"slurm_fsx_job_start_time_seconds{{{job}, {NODE}}}": f"{-60 * minutes}x60",
        f'DCGM_FI_DEV_GPU_UTIL{{{DCGM}, gpu="{gpu}", UUID="GPU-{gpu}"}}': utilisation,
    }


def ada(jobid: int) -> str:
    return f'cluster="lab", jobid="{jobid}", user="ada", account="ml"'


def fsx(free: str, mount: str = "/fsx", node: str = "n1") -> dict[str, str]:
    labels = f'{NODE.replace("n1", node)}, mountpoint="{mount}", fstype="lustre"'
    return {
        f"node_filesystem_avail_bytes{{{labels}}}": free,
        f"node_filesystem_size_bytes{{{labels}}}": "100x60",
    }


CASES = [
    Case("away", "SlurmFsxNodeExporterDown", {f"up{{{NODE}}}": "1x3 0x20"}, "10m", (ON_NODE,)),
    Case("a-missed-scrape", "SlurmFsxNodeExporterDown", {f"up{{{NODE}}}": "1 0 1 1 0 0 1x20"}, "5m", ()),
    Case(
        "of-the-head-node",
        "SlurmFsxNodeExporterDown",
        {f"up{{{HEAD}}}": "0x20"},
        "10m",
        ('cluster="lab", node="head"',),
    ),
    Case("another-exporter", "SlurmFsxNodeExporterDown", {f"up{{{DCGM}}}": "0x20"}, "10m", ()),
    Case("powered-down", "SlurmFsxNodeExporterDown", {f"up{{{NODE}}}": "1x3 0x3 stale"}, "10m", ()),
    Case("away", "SlurmFsxGpuExporterDown", {f"up{{{DCGM}}}": "0x20"}, "10m", (ON_NODE,)),
    Case("there", "SlurmFsxGpuExporterDown", {f"up{{{DCGM}}}": "1x20"}, "10m", ()),
    Case(
        "not-registered",
        "SlurmFsxTargetsMissing",
        {
            **SCRAPED,
            f'slurm_fsx_nodes{{state="idle", {HEAD}}}': "2x60",
            f'slurm_fsx_nodes{{state="down", {HEAD}}}': "1x60",
            f"slurm_fsx_registered_nodes{{{HEAD}}}": "2x60",
        },
        "20m",
        (ON_CLUSTER,),
    ),
    Case(
        "not-scraped",
        "SlurmFsxTargetsMissing",
        {
            **SCRAPED,
            f'slurm_fsx_nodes{{state="idle", {HEAD}}}': "3x60",
            f"slurm_fsx_registered_nodes{{{HEAD}}}": "3x60",
        },
        "20m",
        (ON_CLUSTER,),
    ),
    Case(
        "none-scraped",
        "SlurmFsxTargetsMissing",
        {f'slurm_fsx_nodes{{state="idle", {HEAD}}}': "3x60", f"slurm_fsx_registered_nodes{{{HEAD}}}": "3x60"},
        "20m",
        (ON_CLUSTER,),
    ),
    Case(
        "all-there",
        "SlurmFsxTargetsMissing",
        {
            **SCRAPED,
            f'slurm_fsx_nodes{{state="idle", {HEAD}}}': "2x60",
            f'slurm_fsx_nodes{{state="powered_down", {HEAD}}}': "1000x60",
            f'slurm_fsx_nodes{{state="idle~", {HEAD}}}': "1000x60",
            f'slurm_fsx_nodes{{state="powering_up", {HEAD}}}': "1000x60",
            f"slurm_fsx_registered_nodes{{{HEAD}}}": "2x60",
        },
        "20m",
        (),
    ),
    Case(
        "a-node-that-boots",
        "SlurmFsxTargetsMissing",
        {
            **SCRAPED,
            f'slurm_fsx_nodes{{state="idle", {HEAD}}}': "2x5 3x10 2x45",
            f"slurm_fsx_registered_nodes{{{HEAD}}}": "2x60",
        },
        "14m",
        (),
    ),
    Case(
        "broken",
        "SlurmFsxTargetFileBroken",
        {'prometheus_sd_file_read_errors_total{instance="127.0.0.1:9090", job="prometheus"}': "0x10 1+1x20"},
        "15m",
        ('instance="127.0.0.1:9090"',),
    ),
    Case(
        "mended",
        "SlurmFsxTargetFileBroken",
        {'prometheus_sd_file_read_errors_total{instance="127.0.0.1:9090", job="prometheus"}': "0x5 7x60"},
        "40m",
        (),
    ),
    Case("broken", "SlurmFsxTextfileBroken", {f"node_textfile_scrape_error{{{NODE}}}": "1x20"}, "10m", (ON_NODE,)),
    Case("for-a-moment", "SlurmFsxTextfileBroken", {f"node_textfile_scrape_error{{{NODE}}}": "1x2 0x20"}, "2m", ()),
    Case(
        "fell-off-the-bus",
        "SlurmFsxGpuXidError",
        {f"DCGM_FI_DEV_XID_ERRORS{{{GPU}}}": "0x5 79x20"},
        "10m",
        (ON_GPU,),
        "critical",
    ),
    Case(
        "one-for-a-gpu-that-jobs-share",
        "SlurmFsxGpuXidError",
        {f'DCGM_FI_DEV_XID_ERRORS{{{GPU}, hpc_job="{job}"}}': "95x20" for job in (17, 18)},
        "10m",
        (ON_GPU,),
        "critical",
    ),
    Case(
        "stays-through-missed-scrapes",
        "SlurmFsxGpuXidError",
        {f"DCGM_FI_DEV_XID_ERRORS{{{GPU}}}": "79x8 stale _x3 79x9"},
        "10m",
        (ON_GPU,),
        "critical",
    ),
    *(
        Case(f"a-users-{xid}", "SlurmFsxGpuXidError", {f"DCGM_FI_DEV_XID_ERRORS{{{GPU}}}": f"{xid}x20"}, "10m", ())
        for xid in APPLICATION_XIDS
    ),
    Case("none", "SlurmFsxGpuXidError", {f"DCGM_FI_DEV_XID_ERRORS{{{GPU}}}": "0x20"}, "10m", ()),
    Case(
        "double-bit",
        "SlurmFsxGpuEccErrors",
        {f"DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{{{GPU}}}": "0x5 2x20"},
        "10m",
        (ON_GPU,),
        "critical",
    ),
    Case(
        "rows-remapped-just-now",
        "SlurmFsxGpuEccErrors",
        {f"DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS{{{GPU}}}": "3x5 4x20"},
        "10m",
        (ON_GPU,),
        "critical",
    ),
    Case(
        "rows-remapped-long-ago",
        "SlurmFsxGpuEccErrors",
        {
            f"DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS{{{GPU}}}": "4x20",
            f"DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{{{GPU}}}": "0x20",
        },
        "10m",
        (),
    ),
    Case(
        "failed",
        "SlurmFsxGpuRowRemapFailure",
        {f"DCGM_FI_DEV_ROW_REMAP_FAILURE{{{GPU}}}": "0x5 1x20"},
        "10m",
        (ON_GPU,),
        "critical",
    ),
    Case("none", "SlurmFsxGpuRowRemapFailure", {f"DCGM_FI_DEV_ROW_REMAP_FAILURE{{{GPU}}}": "0x20"}, "10m", ()),
    Case("for-minutes", "SlurmFsxGpuHot", {f"DCGM_FI_DEV_GPU_TEMP{{{GPU}}}": "60x5 88x20"}, "15m", (ON_GPU,)),
    Case(
        "now-and-then", "SlurmFsxGpuHot", {f"DCGM_FI_DEV_GPU_TEMP{{{GPU}}}": "88x3 80 88x3 80 88x3 80 88x3"}, "15m", ()
    ),
    Case("just-seen", "SlurmFsxGpuHot", {f"DCGM_FI_DEV_GPU_TEMP{{{GPU}}}": "_x14 88x20"}, "15m", ()),
    Case("idle", "SlurmFsxGpusIdleInJob", in_job(17, "0x60", 60), "40m", (ada(17),), "info"),
    Case(
        "idle-two-gpus",
        "SlurmFsxGpusIdleInJob",
        {**in_job(17, "0x60", 60), **in_job(17, "0x60", 60, gpu=1)},
        "40m",
        (ada(17),),
        "info",
    ),
    Case(
        "one-of-two-jobs",
        "SlurmFsxGpusIdleInJob",
        {**in_job(17, "0x60", 60), **in_job(18, "5x60", 60, gpu=1)},
        "40m",
        (ada(17),),
        "info",
    ),
    Case("young", "SlurmFsxGpusIdleInJob", in_job(17, "0x60", 0), "30m", ()),
    Case("worked-in-between", "SlurmFsxGpusIdleInJob", in_job(17, "0x20 40 0x60", 60), "45m", ()),
    Case(
        "ended",
        "SlurmFsxGpusIdleInJob",
        {name: "1x30 stale" if "info" in name else values for name, values in in_job(17, "0x60", 60).items()},
        "40m",
        (),
    ),
    Case("almost-no-room", "SlurmFsxStorageFilling", {**fsx("10x60"), **fsx("10x60", node="n2")}, "20m", (ON_CLUSTER,)),
    Case("room", "SlurmFsxStorageFilling", fsx("40x60"), "20m", ()),
    Case("for-a-moment", "SlurmFsxStorageFilling", fsx("10x5 40x60"), "5m", ()),
    Case("for-a-moment", "SlurmFsxStorageAlmostFull", fsx("3x2 40x60"), "2m", ()),
    Case("restarted", "SlurmFsxGpuExporterDown", {f"up{{{DCGM}}}": "1x5 0 0 1x20"}, "7m", ()),
    Case("another-file-system", "SlurmFsxStorageFilling", fsx("1x60", "/"), "20m", ()),
    Case("no-room", "SlurmFsxStorageAlmostFull", fsx("4x60"), "10m", (ON_CLUSTER,), "critical"),
    Case("little-room", "SlurmFsxStorageAlmostFull", fsx("10x60"), "10m", ()),
    Case(
        "failed",
        "SlurmFsxImageImportFailing",
        {f'slurm_fsx_image_imports{{result="failed", {HEAD}}}': "2x60"},
        "15m",
        (ON_CLUSTER,),
    ),
    Case(
        "going-on",
        "SlurmFsxImageImportFailing",
        {
            f'slurm_fsx_image_imports{{result="{result}", {HEAD}}}': f"{count}x60"
            for result, count in (("failed", 0), ("done", 9), ("running", 2))
        },
        "15m",
        (),
    ),
    Case(
        "failed-and-tried-again",
        "SlurmFsxImageImportFailing",
        {f'slurm_fsx_image_imports{{result="failed", {HEAD}}}': "1x5 0x60"},
        "5m",
        (),
    ),
    Case(
        "once",
        "SlurmFsxFailOpen",
        {f'slurm_fsx_fail_open_total{{act="prolog", {NODE}}}': "0x40 1x20"},
        "50m",
        (f'{ON_NODE}, act="prolog"',),
    ),
    Case(
        "the-first-ever",
        "SlurmFsxFailOpen",
        {f'slurm_fsx_fail_open_total{{act="epilog", {NODE}}}': "_x40 1x20"},
        "50m",
        (f'{ON_NODE}, act="epilog"',),
    ),
    Case("long-ago", "SlurmFsxFailOpen", {f'slurm_fsx_fail_open_total{{act="prolog", {NODE}}}': "0x5 3x60"}, "50m", ()),
    Case(
        "a-reboot", "SlurmFsxFailOpen", {f'slurm_fsx_fail_open_total{{act="prolog", {NODE}}}': "3x40 0x20"}, "50m", ()
    ),
    Case(
        "says-so",
        "SlurmFsxSyncFailing",
        {**SYNCED, f"slurm_fsx_sync_success{{{HEAD}}}": "1x5 0x60"},
        "30m",
        (ON_CLUSTER,),
    ),
    Case(
        "hangs",
        "SlurmFsxSyncFailing",
        {**SYNCED, f"slurm_fsx_sync_timestamp_seconds{{{HEAD}}}": "0x120"},
        "30m",
        (ON_CLUSTER,),
    ),
    Case("never-ran", "SlurmFsxSyncFailing", {}, "30m", ("",)),
    Case("fine", "SlurmFsxSyncFailing", SYNCED, "30m", ()),
    Case(
        "one-failure",
        "SlurmFsxSyncFailing",
        {**SYNCED, f"slurm_fsx_sync_success{{{HEAD}}}": "1x20 0 0 1x60"},
        "22m",
        (),
    ),
]


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{case.alert[8:]}-{case.id}") for case in CASES])
def test_an_alert_fires_when_it_should_and_only_then(rules: RuleTests, case: Case) -> None:
    query = f'ALERTS{{alertname="{case.alert}", alertstate="firing"}}'
    own = f'alertname="{case.alert}", alertstate="firing", severity="{case.severity}"'
    expected = {f"ALERTS{{{', '.join(filter(None, (own, labels)))}}}": 1.0 for labels in case.fires}
    assert not rules.answer(case.series, {query: expected}, at=case.at)


@pytest.mark.parametrize("alert", [pytest.param(alert, id=alert.name) for alert in alerts("/fsx")])
def test_every_alert_is_seen_to_fire_and_not_to_fire(alert: Alert) -> None:
    fires = {bool(case.fires) for case in CASES if case.alert == alert.name}
    assert fires == {True, False}


def test_an_admin_reads_what_it_is_and_what_to_do(rules: RuleTests) -> None:
    [alert] = [alert for alert in alerts("/fsx") if alert.name == "SlurmFsxGpuXidError"]
    said = rules.alert(
        {f"DCGM_FI_DEV_XID_ERRORS{{{GPU}}}": "79x20"},
        alert.name,
        [
            {
                "exp_labels": {"cluster": "lab", "node": "n1", "gpu": "0", "UUID": "GPU-aaaa", "severity": "critical"},
                "exp_annotations": {
                    "summary": "GPU 0 of n1 had XID error 79",
                    "description": alert.description.replace("{{ $labels.node }}", "n1"),
                },
            }
        ],
        at="5m",
        interval="1m",
    )
    assert not said


@pytest.mark.parametrize("alert", [pytest.param(alert, id=alert.name) for alert in alerts("/fsx")])
def test_a_text_names_only_labels_that_its_alert_has(alert: Alert) -> None:
    texts = f"{alert.summary} {alert.description}"
    used = set(re.findall(r"\$labels\.(\w+)", texts))
    kept = {label.strip() for by in re.findall(r"by \(([^)]*)\)", alert.expression) for label in by.split(",")}
    assert used <= kept


@pytest.mark.parametrize("group", [containers, monitoring], ids=["containers", "monitoring"])
def test_a_text_sends_nobody_to_a_command_that_is_not_there(group: click.Group) -> None:
    told = {
        command
        for alert in alerts("/fsx")
        for command in re.findall(rf"slurm-fsx {group.name} ([a-z-]+)", f"{alert.summary} {alert.description}")
    }
    assert told
    assert told <= set(group.list_commands(click.Context(group)))


def test_a_mount_point_with_quotes_is_one_string_in_promql() -> None:
    expressions = [alert.expression for alert in alerts('/f"s\\x') if "mountpoint" in alert.expression]
    assert all('mountpoint="/f\\"s\\\\x"' in expression for expression in expressions)
