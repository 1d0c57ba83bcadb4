"""The CloudWatch agent's configuration: what is in it, what others have already, and what the schema takes."""

from __future__ import annotations

import json
import sys
from typing import Any

import jsonschema
import pytest

from lab.cloudwatch_agent import merge
from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.errors import ConfigError
from slurm_fsx_tools.monitoring.cloudwatch.configuration import (
    COMPUTE,
    HEAD,
    NODE_TYPES,
    SCHEMA,
    Node,
    Others,
    Rendered,
    check_config,
    cloudwatch_config,
)

SYSLOG = "/var/log/syslog"


def node(kind: str = HEAD, syslog: str = SYSLOG, agent_version: tuple[int, ...] = ()) -> Node:
    return Node(kind, "ip-10-0-0-1", "train", syslog, agent_version)


def parallelcluster(kind: str = HEAD, group: str = "/aws/parallelcluster/train-202611241200") -> Others:
    """What ParallelCluster 3 tells the agent. Source: its cookbook's cloudwatch_agent_config.json."""
    names = ["/var/log/syslog", "/var/log/slurmctld.log" if kind == HEAD else "/var/log/slurmd.log"]
    content: dict[str, Any] = {
        "logs": {
            "logs_collected": {
                "files": {
                    "collect_list": [
                        {"file_path": name, "log_group_name": group, "log_stream_name": "x"} for name in names
                    ]
                }
            },
            "log_stream_name": "ip-10-0-0-1.{instance_id}.default-log-stream",
        }
    }
    if kind == HEAD:
        content["metrics"] = {
            "metrics_collected": {
                "mem": {"measurement": ["mem_used_percent"], "metrics_collection_interval": 60},
                "disk": {
                    "measurement": ["disk_used_percent"],
                    "resources": ["/"],
                    "metrics_collection_interval": 60,
                },
            },
            "append_dimensions": {"InstanceId": "${aws:InstanceId}"},
            "aggregation_dimensions": [["InstanceId", "path"]],
        }
    return Others.read([content])


def files(rendered: Rendered) -> dict[str, dict[str, Any]]:
    entries = rendered.config["logs"]["logs_collected"]["files"]["collect_list"]
    assert len({entry["file_path"] for entry in entries}) == len(entries)
    return {entry["file_path"]: entry for entry in entries}


@pytest.mark.parametrize("kind", NODE_TYPES)
def test_what_is_rendered_is_what_the_agent_takes(kind: str) -> None:
    for others in (None, parallelcluster(kind)):
        for syslog, version in ((SYSLOG, ()), ("", (1, 300070, 0)), ("", (1, 247350))):
            check_config(cloudwatch_config(node(kind, syslog, version), Config(), others).config)


def test_logs_go_to_the_clusters_group_by_host_and_file() -> None:
    entries = files(cloudwatch_config(node(), Config()))
    assert {entry["log_group_name"] for entry in entries.values()} == {"/aws/parallelcluster/train"}
    assert entries["/var/log/slurmctld.log"]["log_stream_name"] == "ip-10-0-0-1.{instance_id}.slurmctld"
    assert entries["/var/log/slurm/slurmctld.log"]["timestamp_format"] == "%Y-%m-%dT%H:%M:%S.%f"
    assert entries["/fsx/logs/container-downloads/*.log"]["publish_multi_logs"] is True
    assert entries["/fsx/logs/nccl/**.log"]["log_stream_name"].endswith(".nccl-installs")


def test_shared_logs_are_sent_by_the_head_node_alone() -> None:
    entries = files(cloudwatch_config(node(COMPUTE), Config()))
    assert not [path for path in entries if path.startswith("/fsx/")]
    assert {"/var/log/slurmd.log", "/var/log/slurm/slurmd.log", SYSLOG} == set(entries)


def test_of_the_syslog_only_our_lines_are_sent() -> None:
    import re

    entry = files(cloudwatch_config(node(COMPUTE), Config()))[SYSLOG]
    (kept,) = entry["filters"]
    assert kept["type"] == "include"
    assert re.search(kept["expression"], "Nov 24 19:06:29 n1 slurm-fsx[123]: prolog of job 7: registered")
    assert not re.search(kept["expression"], "Nov 24 19:06:29 n1 sudo: bob : COMMAND=/usr/bin/ls /opt/slurm-fsx")
    assert "timestamp_format" not in entry  # rsyslog's templates differ by distribution


def test_without_a_syslog_file_a_new_agent_reads_the_journal() -> None:
    rendered = cloudwatch_config(node(COMPUTE, "", (1, 300071, 0)), Config())
    (entry,) = rendered.config["logs"]["logs_collected"]["journald"]["collect_list"]
    assert entry["matches"] == [{"SYSLOG_IDENTIFIER": "slurm-fsx"}]
    assert rendered.notes == ()


def test_without_a_syslog_file_an_old_agent_is_not_asked_for_what_it_refuses() -> None:
    rendered = cloudwatch_config(node(COMPUTE, "", (1, 247350, 0)), Config())
    assert "journald" not in rendered.config["logs"]["logs_collected"]
    assert "rsyslog" in rendered.notes[0]


def test_metrics_are_cpu_memory_disk_and_the_shared_file_system() -> None:
    metrics = cloudwatch_config(node(COMPUTE), Config({"fsx.root": "/scratch", "cloudwatch.interval": 30.0})).config[
        "metrics"
    ]
    assert metrics["namespace"] == "ParallelCluster"
    assert set(metrics["metrics_collected"]) == {"cpu", "mem", "disk"}
    assert metrics["metrics_collected"]["disk"]["resources"] == ["/", "/scratch"]
    assert {part["metrics_collection_interval"] for part in metrics["metrics_collected"].values()} == {30}
    assert "resources" not in metrics["metrics_collected"]["cpu"]  # or 192 series a node


@pytest.mark.parametrize("kind", NODE_TYPES)
def test_what_parallelcluster_collects_is_not_collected_twice(kind: str) -> None:
    rendered = cloudwatch_config(node(kind), Config(), parallelcluster(kind))
    assert not set(files(rendered)) & {SYSLOG, "/var/log/slurmctld.log", "/var/log/slurmd.log"}
    assert any(SYSLOG in note and "slurm-fsx" in note for note in rendered.notes)


def test_a_pattern_of_theirs_counts_as_well() -> None:
    others = Others(log_files={"/var/log/slurm*.log": "g"})
    entries = files(cloudwatch_config(node(COMPUTE), Config(), others))
    assert "/var/log/slurmd.log" not in entries


@pytest.mark.parametrize("kind", NODE_TYPES)
def test_both_configurations_can_be_merged(kind: str) -> None:
    theirs = parallelcluster(kind)
    metrics = {} if theirs.metrics is None else {"metrics": dict(theirs.metrics)}
    merged = merge(metrics, cloudwatch_config(node(kind), Config(), theirs).config)
    check_config(merged)
    if kind == HEAD:
        # ParallelCluster's alarms watch these in CWAgent.
        assert "namespace" not in merged["metrics"]
        assert merged["metrics"]["metrics_collected"]["mem"] == {
            "measurement": ["mem_used_percent"],
            "metrics_collection_interval": 60,
        }


def test_an_admin_is_told_where_the_head_nodes_metrics_are() -> None:
    rendered = cloudwatch_config(node(), Config(), parallelcluster())
    assert set(rendered.config["metrics"]["metrics_collected"]) == {"cpu"}
    notes = " ".join(rendered.notes)
    assert "CWAgent" in notes
    assert "metrics of disk" in notes
    assert "metrics of mem" in notes


@pytest.mark.parametrize(
    ("group", "theirs", "expected"),
    [
        pytest.param(
            "", "/aws/parallelcluster/train-202611241200", "/aws/parallelcluster/train-202611241200", id="joined"
        ),
        pytest.param(
            "", "/aws/parallelcluster/train-2-202611241200", "/aws/parallelcluster/train", id="another-cluster"
        ),
        pytest.param("/site/hpc", "/aws/parallelcluster/train-202611241200", "/site/hpc", id="configured"),
    ],
)
def test_the_log_group_is_the_clusters_own(group: str, theirs: str, expected: str) -> None:
    rendered = cloudwatch_config(node(), Config({"cloudwatch.log_group": group}), parallelcluster(group=theirs))
    assert {entry["log_group_name"] for entry in files(rendered).values()} == {expected}


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"cloudwatch.log_group": "a b"}, id="group"),
        pytest.param({"cloudwatch.namespace": "AWS/EC2"}, id="reserved-namespace"),
        pytest.param({"cloudwatch.namespace": ""}, id="no-namespace"),
    ],
)
def test_what_cloudwatch_refuses_is_said_here(values: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as raised:
        cloudwatch_config(node(), Config(values))
    assert "cloudwatch." in raised.value.hint


def test_a_cluster_without_a_name_has_no_log_group() -> None:
    with pytest.raises(ConfigError, match="no name"):
        cloudwatch_config(node()._replace(cluster=""), Config())


def test_a_hosts_name_cannot_spoil_a_streams() -> None:
    entries = files(cloudwatch_config(node(COMPUTE)._replace(host="a:b*{c}"), Config()))
    assert entries[SYSLOG]["log_stream_name"] == "a_b__c_.{instance_id}.slurm-fsx"


def test_the_same_node_gets_the_same_text() -> None:
    first, second = (cloudwatch_config(node(), Config()).text() for _ in range(2))
    assert first == second
    assert json.loads(first) == cloudwatch_config(node(), Config()).config


@pytest.mark.parametrize(
    "content",
    [
        pytest.param([], id="no-object"),
        pytest.param({"logs": []}, id="logs-no-object"),
        pytest.param({"logs": {"logs_collected": {"files": {"collect_list": [7, {"file_path": 7}]}}}}, id="no-paths"),
        pytest.param({"metrics": {}}, id="no-metrics"),
    ],
)
def test_others_configurations_may_have_any_shape(content: Any) -> None:
    others = Others.read([content])
    assert others.log_files == {}
    cloudwatch_config(node(), Config(), others)


LOG = {"file_path": "/a", "log_group_name": "g"}


def logs(entry: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"logs": {"logs_collected": {"files": {"collect_list": [entry]}}, **more}}


def metric(**more: Any) -> dict[str, Any]:
    return {"metrics": {"metrics_collected": {"disk": {"measurement": ["used_percent"], **more}}}}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(logs({"file_path": "/a"}), id="least-log"),
        pytest.param(logs({**LOG, "timezone": "UTC", "retention_in_days": 7}, concurrency=2), id="log-options"),
        pytest.param(logs({**LOG, "filters": [{"type": "exclude", "expression": "DEBUG"}]}), id="filters"),
        pytest.param(metric(), id="least-metric"),
        pytest.param({**metric(), **logs(LOG), "agent": {"region": "eu-west-1"}}, id="all-sections"),
        pytest.param(metric(measurement=[{"name": "free", "rename": "FREE", "unit": "Bytes"}]), id="renamed"),
        pytest.param(
            {"metrics": {"metrics_collected": {"statsd": {}}, "aggregation_dimensions": [["a"], []]}}, id="other"
        ),
    ],
)
def test_the_schema_takes_what_the_agent_takes(content: dict[str, Any]) -> None:
    check_config(content)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({}, id="empty"),
        pytest.param({"metric": {}}, id="misspelt-section"),
        pytest.param({"logs": {"log_stream_name": "a"}}, id="logs-of-nothing"),
        pytest.param(logs({"log_group_name": "g"}), id="no-path"),
        pytest.param(logs({**LOG, "log_group": "g"}), id="misspelt-key"),
        pytest.param(logs({**LOG, "retention_in_days": 8}), id="no-such-retention"),
        pytest.param(logs({**LOG, "filters": [{"type": "only", "expression": "x"}]}), id="no-such-filter"),
        pytest.param({"logs": {"logs_collected": {"files": {"collect_list": [LOG, LOG]}}}}, id="twice"),
        pytest.param({"logs": {"logs_collected": {"files": {"collect_list": []}}}}, id="no-files"),
        pytest.param({"metrics": {"namespace": "a"}}, id="metrics-of-nothing"),
        pytest.param(metric(measurement=[]), id="nothing-measured"),
        pytest.param(metric(metrics_collection_interval=0), id="no-interval"),
        pytest.param(metric(metrics_collection_interval="60"), id="interval-as-text"),
        pytest.param(
            {"metrics": {"metrics_collected": {"cpu": {"resources": ["cpu0"], "measurement": ["a"]}}}}, id="cpu0"
        ),
        pytest.param({**metric(), "logs": 3}, id="logs-a-number"),
    ],
)
def test_the_schema_refuses_what_the_agent_refuses(content: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        check_config(content)


def test_without_jsonschema_the_least_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    check_config(cloudwatch_config(node(), Config()).config)
    for content in ([], {}, {"metric": {}}, {"metrics": {}}, {"logs": {}}, logs({"log_group_name": "g"})):
        with pytest.raises(ConfigError):
            check_config(content)


def test_the_schema_is_one() -> None:
    with open(SCHEMA, encoding="utf-8") as file:
        jsonschema.Draft7Validator.check_schema(json.load(file))
