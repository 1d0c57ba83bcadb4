"""Nodes register themselves with a real Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.prometheus import Prometheus

if TYPE_CHECKING:
    from .conftest import Site


def test_prometheus_sees_every_node_that_has_run_a_job(bare_site: Site) -> None:
    cluster = bare_site.cluster
    bare_site.srun("--nodes=2")
    with Prometheus.start(cluster) as prometheus:
        cluster.wait_until(lambda: prometheus.up() == {"n1", "n2"}, "both nodes up in Prometheus")
        for target in prometheus.targets():
            assert target.is_up
            assert target.labels["cluster"] == "lab"
            assert target.labels["exporter"] == "node_exporter"
            assert target.instance == f"{target.labels['node']}:9100"


def test_a_second_job_rewrites_no_target(bare_site: Site) -> None:
    targets = bare_site.cluster.fsx / "monitoring/targets"
    bare_site.srun("--nodes=2")
    before = {path.name: path.stat() for path in targets.iterdir()}
    bare_site.srun("--nodes=2")
    assert {path.name: path.stat() for path in targets.iterdir()} == before
    assert set(before) == {"n1.json", "n2.json"}
