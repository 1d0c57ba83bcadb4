"""Nodes register themselves with a real Prometheus."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lab.prometheus import Prometheus

if TYPE_CHECKING:
    from .conftest import Site


def test_prometheus_sees_every_node_that_has_run_a_job(bare_site: Site) -> None:
    cluster = bare_site.cluster
    bare_site.srun("--nodes=2")
    for name in cluster.nodes:
        groups = json.loads((cluster.fsx / f"monitoring/targets/{name}.json").read_text())
        assert [sorted(group) for group in groups] == [["labels", "targets"]]
    with Prometheus.start(cluster) as prometheus:
        cluster.wait_until(lambda: prometheus.up() == {"n1", "n2"}, "both nodes up in Prometheus")
        targets = prometheus.targets()
        assert len(targets) == 2
        for target in targets:
            assert target.is_up
            assert target.labels["cluster"] == "lab"
            assert target.labels["exporter"] == "node_exporter"
            assert target.instance == f"{target.labels['node']}:9100"


def test_a_second_job_rewrites_no_target(bare_site: Site) -> None:
    targets = bare_site.cluster.fsx / "monitoring/targets"
    bare_site.srun("--nodes=2")

    def written() -> dict[str, tuple[int, int]]:
        # A file that is replaced is another inode. Its atime does not count: prologs and Prometheus read it.
        return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in targets.iterdir()}

    before = written()
    bare_site.srun("--nodes=2")
    assert written() == before
    assert set(before) == {"n1.json", "n2.json"}
