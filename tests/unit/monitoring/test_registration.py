from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Callable

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.job import Node
from slurm_fsx_tools.monitoring.exporters import Exporter
from slurm_fsx_tools.monitoring.registration import ASK_AGAIN_S, register_new
from slurm_fsx_tools.monitoring.targets import read_targets
from slurm_fsx_tools.shared_fs import SharedFs

NODE = Node("localhost", "train")
"""A name that resolves to where the test's ports are."""


def register(config: Config, exporters: list[Exporter], now_s: float = 1000.0) -> list[Exporter]:
    return register_new(NODE, exporters, config, SharedFs(config["fsx.root"], 5), now_s)


def registered(config: Config) -> set[str]:
    return set(read_targets(config["fsx.root"], NODE.name) or ())


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
    assert register(config, [exporter]) == []
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
    memory = Path(config["runtime_dir"]) / "silent-exporters"
    exporter = Exporter("node_exporter", listen())
    for text in (f'{{"node_exporter:{exporter.port}": 5000}}', "[1, 2", "[1]", '{"a": "b"}'):
        memory.write_text(text)
        (Path(config["fsx.root"]) / "monitoring/targets/localhost.json").unlink(missing_ok=True)
        assert register(config, [exporter], 1000) == [exporter]
    assert register(config, [Exporter("x", closed_port)], 1000) == []


def test_a_runtime_folder_that_is_gone_stops_nobody(
    config: Config, listen: Callable[[], int], closed_port: int
) -> None:
    os.rmdir(config["runtime_dir"])
    there = Exporter("node_exporter", listen())
    assert register(config, [there, Exporter("x", closed_port)]) == [there]
