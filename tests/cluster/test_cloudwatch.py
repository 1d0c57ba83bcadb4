"""``slurm-fsx monitoring cloudwatch`` with and without the agent, and beside ParallelCluster's configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lab.cloudwatch_agent
from lab.cluster import Cluster
from slurm_fsx_tools.monitoring.cloudwatch.agent import AGENT, CONTROL
from slurm_fsx_tools.provision.cloudwatch import PATH

from .conftest import COMMAND

FOLDER = f"{AGENT}/etc/amazon-cloudwatch-agent.d"
COPY = f"{FOLDER}/file_slurm-fsx-cloudwatch.json"
# As its cookbook writes it at a head node's first boot, shortened.
PARALLELCLUSTER = {
    "logs": {
        "logs_collected": {
            "files": {
                "collect_list": [
                    {
                        "log_stream_name": "head.{instance_id}.slurmctld",
                        "file_path": "/var/log/slurmctld.log",
                        "timestamp_format": "%Y-%m-%dT%H:%M:%S.%f",
                        "log_group_name": "/aws/parallelcluster/train-202611241200",
                    }
                ]
            }
        },
        "log_stream_name": "head.{instance_id}.default-log-stream",
    },
    "metrics": {
        "metrics_collected": {"mem": {"metrics_collection_interval": 60, "measurement": ["mem_used_percent"]}},
        "append_dimensions": {"InstanceId": "${aws:InstanceId}"},
        "aggregation_dimensions": [["InstanceId", "path"]],
    },
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, installation: Path) -> Iterator[Cluster]:
    with Cluster.start(tmp_path_factory.mktemp("cloudwatch"), nodes=1, installation=installation) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def fresh(cluster: Cluster) -> None:
    """Each test begins with an agent that was told nothing."""
    for name in ("head", "n1"):
        cluster.run_on(name, ["rm", "-rf", AGENT, PATH, "/var/lib/slurm-fsx/setup", "/etc/parallelcluster"])
        cluster.machine(name).write(CONTROL, f"#!/usr/bin/python3\n{Path(lab.cloudwatch_agent.__file__).read_text()}")
        cluster.run_on(name, ["chmod", "755", CONTROL])


def cloudwatch(cluster: Cluster, node: str, *options: str) -> tuple[int, str, str]:
    done = cluster.run_on(node, [COMMAND, "monitoring", "cloudwatch", *options])
    return done.returncode, done.stdout, done.stderr


def read(cluster: Cluster, node: str, path: str) -> Any:
    return json.loads(cluster.machine(node).path(path).read_text())


def exists(cluster: Cluster, node: str, path: str) -> bool:
    return cluster.machine(node).path(path).exists()


def starts(cluster: Cluster, node: str) -> int:
    path = f"{AGENT}/logs/starts"
    return len(cluster.machine(node).path(path).read_text().splitlines()) if exists(cluster, node, path) else 0


def test_the_agent_is_told_once(cluster: Cluster) -> None:
    code, out, err = cloudwatch(cluster, "n1", "--node-type", "compute")
    assert code == 0, out + err
    assert read(cluster, "n1", COPY) == read(cluster, "n1", PATH)
    assert read(cluster, "n1", PATH)["metrics"]["namespace"] == "ParallelCluster"
    assert starts(cluster, "n1") == 1
    code, out, err = cloudwatch(cluster, "n1", "--node-type", "compute")
    assert code == 0, out + err
    assert starts(cluster, "n1") == 1


def test_parallelclusters_configuration_stays_whole_and_is_completed(cluster: Cluster) -> None:
    head = cluster.head
    head.write("/etc/parallelcluster/cfnconfig", "stack_name=train\ncfn_node_type=HeadNode\n")
    theirs = f"{AGENT}/etc/amazon-cloudwatch-agent.json"
    head.write(theirs, json.dumps(PARALLELCLUSTER))
    done = cluster.run_on("head", [CONTROL, "-a", "append-config", "-m", "ec2", "-c", f"file:{theirs}", "-s"])
    assert done.returncode == 0, done.stdout + done.stderr
    code, out, err = cloudwatch(cluster, "head")
    assert code == 0, out + err
    assert "CWAgent" in err
    assert read(cluster, "head", f"{FOLDER}/file_amazon-cloudwatch-agent.json") == PARALLELCLUSTER
    ours = read(cluster, "head", COPY)
    entries = ours["logs"]["logs_collected"]["files"]["collect_list"]
    assert "/var/log/slurmctld.log" not in {entry["file_path"] for entry in entries}
    assert {entry["log_group_name"] for entry in entries} == {"/aws/parallelcluster/train-202611241200"}


def test_after_somebody_told_it_something_else_it_is_told_again(cluster: Cluster) -> None:
    assert cloudwatch(cluster, "n1", "--node-type", "compute")[0] == 0
    cluster.nodes["n1"].write("/etc/site.json", '{"agent": {"debug": false}}')
    cluster.run_on("n1", [CONTROL, "-a", "fetch-config", "-m", "ec2", "-c", "file:/etc/site.json", "-s"])
    assert not exists(cluster, "n1", COPY)
    code, out, err = cloudwatch(cluster, "n1", "--node-type", "compute")
    assert code == 0, out + err
    assert exists(cluster, "n1", COPY)
    assert exists(cluster, "n1", f"{FOLDER}/file_site.json")


def test_it_is_taken_back_with_the_rest_of_set_up(cluster: Cluster) -> None:
    assert cloudwatch(cluster, "n1", "--node-type", "compute")[0] == 0
    cluster.nodes["n1"].write("/etc/site.json", '{"agent": {"debug": false}}')
    cluster.run_on("n1", [CONTROL, "-a", "append-config", "-m", "ec2", "-c", "file:/etc/site.json"])
    done = cluster.run_on("n1", [COMMAND, "setup", "uninstall", "cloudwatch"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert not exists(cluster, "n1", PATH)
    assert not exists(cluster, "n1", COPY)
    assert exists(cluster, "n1", f"{FOLDER}/file_site.json")
    assert starts(cluster, "n1") == 2


def test_a_dry_run_and_a_print_change_nothing(cluster: Cluster) -> None:
    code, out, _ = cloudwatch(cluster, "n1", "--node-type", "compute", "--dry-run")
    assert code == 0
    assert PATH in out
    assert "append-config" in out
    code, out, _ = cloudwatch(cluster, "n1", "--node-type", "compute", "--print")
    assert code == 0
    assert set(json.loads(out)) == {"logs", "metrics"}
    assert not exists(cluster, "n1", PATH)
    assert not exists(cluster, "n1", COPY)


def test_without_the_agent_the_file_is_written_and_the_reason_is_said(cluster: Cluster) -> None:
    cluster.run_on("n1", ["rm", "-rf", AGENT])
    code, out, err = cloudwatch(cluster, "n1", "--node-type", "compute")
    assert code == 1
    assert f"{CONTROL} is missing" in out + err
    assert "install amazon-cloudwatch-agent" in out + err
    assert exists(cluster, "n1", PATH)


def test_an_agent_that_refuses_is_quoted(cluster: Cluster) -> None:
    # The agent may have been told something since we looked; here by a file that it alone takes for one of its own.
    cluster.nodes["n1"].write(CONTROL, "#!/bin/sh\necho Different values are specified for mem\nexit 1\n")
    cluster.run_on("n1", ["chmod", "755", CONTROL])
    code, out, err = cloudwatch(cluster, "n1", "--node-type", "compute")
    assert code == 1
    assert "Different values are specified for mem" in out + err


def test_a_node_that_nobody_has_named_is_asked_for(cluster: Cluster) -> None:
    code, _, err = cloudwatch(cluster, "n1")
    assert code == 2
    assert "--node-type" in err


def test_the_clusters_name_is_slurms_where_nobody_else_says(cluster: Cluster) -> None:
    _, out, _ = cloudwatch(cluster, "n1", "--node-type", "compute", "--print")
    group = json.loads(out)["logs"]["logs_collected"]["files"]["collect_list"][0]["log_group_name"]
    name = next(
        line.split("=")[1].strip()
        for line in cluster.run_on("n1", ["scontrol", "show", "config"]).stdout.splitlines()
        if line.startswith("ClusterName")
    )
    assert group == f"/aws/parallelcluster/{name}"
