from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.job import Node
from slurm_fsx_tools.monitoring.exporters import Exporter
from slurm_fsx_tools.monitoring.on_head.sync import Sync
from slurm_fsx_tools.monitoring.on_node.registration import ASK_AGAIN_S, LOOK_AGAIN_S, register_new
from slurm_fsx_tools.monitoring.targets import read_targets
from slurm_fsx_tools.shared_fs import SharedFs
from slurm_fsx_tools.slurm_state import SlurmNode

if TYPE_CHECKING:
    from ..conftest import Slurm

NODE = Node("localhost", "train")
"""A name that resolves to where the test's ports are."""


def register(config: Config, exporters: list[Exporter], now_s: float = 1000.0) -> list[Exporter]:
    return register_new(NODE, exporters, config, SharedFs(config["fsx.root"], 5), now_s)


def registered(config: Config) -> set[str]:
    return set(read_targets(config["fsx.root"], NODE.name) or ())


def forget_target(config: Config) -> None:
    (Path(config["fsx.root"]) / "monitoring/targets/localhost.json").unlink()


def test_what_is_registered_is_not_looked_for_on_the_shared_file_system_for_a_while(
    config: Config, listen: Callable[[], int]
) -> None:
    exporter = Exporter("node_exporter", listen())
    assert register(config, [exporter], 1000) == [exporter]
    forget_target(config)
    assert register(config, [exporter], 1000 + LOOK_AGAIN_S - 1) == []
    assert registered(config) == set()
    assert register(config, [exporter], 1000 + LOOK_AGAIN_S) == [exporter]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda node, root: (node._replace(name="127.0.0.1"), root, ""), id="node"),
        pytest.param(lambda node, root: (node._replace(cluster="other"), root, ""), id="cluster"),
        pytest.param(lambda node, root: (node, root, "renamed"), id="label"),
        pytest.param(lambda node, root: (node, f"{root}2", ""), id="file-system"),
    ],
)
def test_what_was_registered_for_another_node_cluster_or_file_system_does_not_count(
    config: Config, fsx: Path, listen: Callable[[], int], change: Callable[[Node, str], tuple[Node, str, str]]
) -> None:
    (fsx.parent / "fsx2/monitoring/targets").mkdir(parents=True)
    exporter = Exporter("node_exporter", listen())
    register(config, [exporter])
    node, root, cluster = change(NODE, str(fsx))
    other = Config({**config.as_dict(), "fsx.root": root, "cluster.name": cluster})
    register_new(node, [exporter], other, SharedFs(root, 5), 1000)
    targets = read_targets(root, node.name) or {}
    assert [target.labels["cluster"] for target in targets.values()] == [cluster or node.cluster]


def test_a_file_that_went_meanwhile_is_mended_by_the_head_node_and_made_whole_by_the_next_look(
    config: Config, slurm: Slurm, listen: Callable[[], int]
) -> None:
    slurm.known = {NODE.name: SlurmNode(NODE.name, "idle", "", "all", 0, ("all",))}
    own, usual = Exporter("a-sites-own", listen()), Exporter("node_exporter", listen())
    config = Config({**config.as_dict(), "monitoring.node_exporter_port": usual.port})
    register(config, [usual, own])
    slurm.set(NODE.name, marks="~")  # powered down, and back without a boot
    Sync(slurm, config).run()
    assert registered(config) == set()
    slurm.set(NODE.name, marks="")
    assert register(config, [usual, own]) == []
    Sync(slurm, config).run()
    assert registered(config) == {"node_exporter"}
    assert register(config, [usual, own], 1000 + LOOK_AGAIN_S) == [own]
    Sync(slurm, config).run()
    assert registered(config) == {"node_exporter", "a-sites-own"}


def test_an_exporter_is_registered_once_its_port_answers(config: Config, listen: Callable[[], int]) -> None:
    exporters = [Exporter("node_exporter", listen()), Exporter("a-sites-own", listen())]
    assert register(config, exporters) == exporters
    assert registered(config) == {"node_exporter", "a-sites-own"}
    assert register(config, exporters) == []


def test_an_exporter_that_died_stays_registered_so_that_its_alert_fires(config: Config, fsx: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        exporter = Exporter("node_exporter", server.getsockname()[1])
        register(config, [exporter])
    before = os.stat(fsx / "monitoring/targets/localhost.json")
    for now_s in (1000.0, 1000 + LOOK_AGAIN_S):
        assert register(config, [exporter], now_s) == []
    assert os.stat(fsx / "monitoring/targets/localhost.json").st_ino == before.st_ino


def test_a_silent_exporter_is_not_registered_and_asked_again_only_after_a_while(config: Config) -> None:
    with socket.socket() as late:
        late.bind(("127.0.0.1", 0))
        exporter = Exporter("dcgm-exporter", late.getsockname()[1])
        assert register(config, [exporter], 1000) == []
        assert registered(config) == set()
        late.listen()
        assert register(config, [exporter], 1000 + ASK_AGAIN_S - 1) == []
        assert register(config, [exporter], 1000 + ASK_AGAIN_S) == [exporter]


def test_a_silent_exporter_keeps_no_other_from_being_registered(
    config: Config, listen: Callable[[], int], closed_port: int
) -> None:
    silent, there = Exporter("dcgm-exporter", closed_port), Exporter("node_exporter", listen())
    assert register(config, [silent]) == []
    assert register(config, [silent, there]) == [there]
    moved = there._replace(port=listen())
    assert register(config, [silent, moved]) == [moved]


def test_what_was_remembered_before_a_boot_or_is_broken_does_not_count(
    config: Config, closed_port: int, listen: Callable[[], int]
) -> None:
    memory = Path(config["runtime_dir"]) / "registration.json"
    exporter = Exporter("node_exporter", listen())
    register(config, [exporter], 5000)
    good = memory.read_text()
    for text in (good, "[1, 2", "[1]", '{"a": "b"}', '["a", "b", "c"]', "[" * 100_000, good.replace("{}", "[]")):
        memory.write_text(text)
        forget_target(config)
        assert register(config, [exporter], 1000) == [exporter]
    memory.chmod(0o666)
    forget_target(config)
    assert register(config, [exporter], 1000) == [exporter]
    assert register(config, [Exporter("x", closed_port)], 1000) == []


def test_a_runtime_folder_that_is_gone_stops_nobody(
    config: Config, listen: Callable[[], int], closed_port: int
) -> None:
    os.rmdir(config["runtime_dir"])
    there = Exporter("node_exporter", listen())
    assert register(config, [there, Exporter("x", closed_port)]) == [there]
    assert register(config, [there]) == []


def test_a_look_that_fails_is_not_remembered_as_an_answer(config: Config, listen: Callable[[], int]) -> None:
    exporter = Exporter("node_exporter", listen())
    folder = Path(config["fsx.root"]) / "monitoring/targets"
    folder.rmdir()
    folder.touch()
    with pytest.raises(NotADirectoryError):
        register(config, [exporter])
    folder.unlink()
    folder.mkdir()
    assert register(config, [exporter]) == [exporter]
