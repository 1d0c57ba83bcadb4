from __future__ import annotations

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.job import Node
from slurm_fsx_tools.monitoring.exporters import Exporter
from slurm_fsx_tools.monitoring.on_head.discovery import PASSES_TO_BELIEVE, labels_from_slurm, make_plan
from slurm_fsx_tools.monitoring.targets import Targets, make_target
from slurm_fsx_tools.slurm_state import SlurmNode

CONFIG = Config()


def registered(*names: str, cluster: str = "train") -> dict[str, Targets | None]:
    """Files as prologs write them."""
    exporter = Exporter("node_exporter", 9100)
    return {name: {exporter.name: make_target(Node(name, cluster), "", exporter)} for name in names}


def acts(nodes: list[SlurmNode], files: dict[str, Targets | None], **options: int) -> dict[str, str]:
    return {each.node: each.act for each in make_plan(nodes, files, "train", CONFIG, **options).changes}


def test_a_node_that_never_ran_a_prolog_gets_node_exporter() -> None:
    plan = make_plan([SlurmNode("cpu-1", "idle", "", "all")], {}, "train", CONFIG)
    labels = {"cluster": "train", "node": "cpu-1", "partition": "all", "exporter": "node_exporter"}
    assert plan.targets == {"cpu-1": {"node_exporter": ("cpu-1:9100", labels)}}
    assert [(each.node, each.act) for each in plan.changes] == [("cpu-1", "add")]


@pytest.mark.parametrize(
    ("registered_with", "cluster", "expected"),
    [
        pytest.param((), "train", {"node_exporter"}, id="nobody has one"),
        pytest.param(("dcgm-exporter",), "train", {"node_exporter", "dcgm-exporter"}, id="another node has one"),
        pytest.param(("dcgm-exporter",), "other", {"node_exporter"}, id="another cluster has one"),
    ],
)
def test_dcgm_exporter_is_expected_on_gpu_nodes_once_a_node_of_the_cluster_had_one(
    registered_with: tuple[str, ...], cluster: str, expected: set[str]
) -> None:
    seen = {name: make_target(Node("gpu-1", cluster), "", Exporter(name, 9400)) for name in registered_with}
    nodes = [SlurmNode(name, "idle", gpus=8) for name in ("gpu-1", "gpu-2")] + [SlurmNode("cpu-1", "idle")]
    plan = make_plan(nodes, {"gpu-1": seen or None}, "train", CONFIG)
    assert set(plan.targets["gpu-2"]) == expected
    assert set(plan.targets["cpu-1"]) == {"node_exporter"}


def test_what_a_prolog_wrote_gets_labels_and_nothing_else() -> None:
    site = Exporter("lustre_exporter", 9169)
    files: dict[str, Targets | None] = {"gpu-1": {site.name: make_target(Node("gpu-1", "train"), "", site, {"r": "7"})}}
    nodes = [SlurmNode("gpu-1", "idle", "", "gpu", 8, ("gpu",))]
    plan = make_plan(nodes, files, "train", CONFIG)
    assert set(plan.targets["gpu-1"]) == {"lustre_exporter"}
    assert plan.targets["gpu-1"]["lustre_exporter"].labels["r"] == "7"
    assert plan.targets["gpu-1"]["lustre_exporter"].labels["partition"] == "gpu"
    assert make_plan(nodes, plan.targets, "train", CONFIG).changes == []


def test_a_label_that_slurm_does_not_tell_any_more_goes() -> None:
    before = make_plan([SlurmNode("n1", "idle", "", "a", 0, ("a",), ("c5.large",))], {}, "train", CONFIG).targets
    plan = make_plan([SlurmNode("n1", "idle")], before, "train", CONFIG)
    assert plan.targets["n1"]["node_exporter"].labels == {
        "cluster": "train",
        "node": "n1",
        "exporter": "node_exporter",
    }


@pytest.mark.parametrize(
    ("state", "marks", "there", "not_there"),
    [
        pytest.param("idle", "", "label", "add", id="idle"),
        pytest.param("down", "", "label", "add", id="down"),
        pytest.param("down", "*", "label", "add", id="silent"),
        pytest.param("drained", "", "label", "add", id="drained"),
        pytest.param("idle", "!", "label", "add", id="to-be-powered-down"),
        pytest.param("mixed", "#", "label", None, id="powering-up"),
        pytest.param("powering_up", "", "label", None, id="powering-up-in-a-word"),
        pytest.param("idle", "~", "remove", None, id="powered-down"),
        pytest.param("down", "~", "remove", None, id="down-and-off"),
        pytest.param("idle", "%", "remove", None, id="powering-down"),
        pytest.param("powering_down", "", "remove", None, id="powering-down-in-a-word"),
        pytest.param("future", "", "remove", None, id="future"),
    ],
)
def test_a_nodes_state_decides_whether_it_is_a_target(
    state: str, marks: str, there: str | None, not_there: str | None
) -> None:
    node = SlurmNode("n1", state, marks, "all", 0, ("all",))
    assert acts([node], registered("n1")).get("n1") == there
    assert acts([node], {}).get("n1") == not_there


def test_a_broken_file_of_a_node_is_mended() -> None:
    assert acts([SlurmNode("n1", "idle")], {"n1": None}) == {"n1": "mend"}
    assert acts([SlurmNode("n1", "idle", "~")], {"n1": None}) == {"n1": "remove"}


def test_a_node_that_slurm_does_not_know_any_more_goes() -> None:
    nodes = [SlurmNode("n1", "idle", "", "all", 0, ("all",))]
    assert acts(nodes, registered("n1", "n2")) == {"n1": "label", "n2": "remove"}


def test_most_nodes_gone_at_once_is_believed_only_when_it_is_said_again_and_again() -> None:
    nodes, files = [SlurmNode("n1", "idle")], registered("n1", "n2", "n3")
    for doubts in range(PASSES_TO_BELIEVE - 1):
        plan = make_plan(nodes, files, "train", CONFIG, doubts)
        assert plan.changes == []
        assert plan.doubted == ["n2", "n3"]
        assert set(plan.targets) == {"n1", "n2", "n3"}
    assert acts(nodes, files, doubts=PASSES_TO_BELIEVE - 1) == {"n2": "remove", "n3": "remove"}


def test_all_nodes_powered_down_is_believed_at_once() -> None:
    nodes = [SlurmNode(name, "idle", "~") for name in ("n1", "n2", "n3")]
    assert acts(nodes, registered("n1", "n2", "n3")) == dict.fromkeys(("n1", "n2", "n3"), "remove")


def test_files_of_another_cluster_or_an_admin_are_left_alone_and_offered_as_they_are() -> None:
    files = {**registered("n1"), **registered("theirs", cluster="other"), "notes": None}
    plan = make_plan([SlurmNode("n1", "idle")], files, "train", CONFIG)
    assert plan.changes == []
    assert plan.foreign == ["notes", "theirs"]
    assert set(plan.targets) == {"n1", "theirs"}


def test_a_cluster_that_got_another_name_gets_its_labels() -> None:
    plan = make_plan([SlurmNode("n1", "idle")], registered("n1", cluster="old"), "train", CONFIG)
    assert plan.targets["n1"]["node_exporter"].labels["cluster"] == "train"


@pytest.mark.parametrize(
    ("node", "labels"),
    [
        pytest.param(SlurmNode("n", "idle", partition="b", partitions=("b", "a")), {"partition": "a,b"}, id="sorted"),
        pytest.param(SlurmNode("n", "idle", partition="a"), {"partition": "a"}, id="one"),
        pytest.param(SlurmNode("n", "idle", features=("static", "gpu")), {}, id="no-type-among-the-features"),
        pytest.param(
            SlurmNode("n", "idle", features=("p6-b200.48xlarge", "efa")),
            {"instance_type": "p6-b200.48xlarge"},
            id="type",
        ),
    ],
)
def test_labels_are_those_that_slurm_tells(node: SlurmNode, labels: dict[str, str]) -> None:
    assert labels_from_slurm(node) == labels
