from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.job import Node
from slurm_fsx_tools.monitoring.exporters import Exporter
from slurm_fsx_tools.monitoring.on_node.boot import Registration, register_anew
from slurm_fsx_tools.monitoring.on_node.registration import register_new
from slurm_fsx_tools.monitoring.targets import add_exporters, read_targets
from slurm_fsx_tools.shared_fs import SharedFs

NODE = Node("localhost", "train")


def register(config: Config, exporters: list[Exporter], wait_s: float = 0.0) -> Registration:
    return register_anew(NODE, exporters, config, SharedFs(config["fsx.root"], 5), wait_s)


def registered(config: Config) -> set[str]:
    return set(read_targets(config["fsx.root"], NODE.name) or ())


@pytest.fixture
def late_exporter() -> Iterator[Exporter]:
    """A real node_exporter that starts half a second after its port was nobody's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = f"sleep 0.5; exec prometheus-node-exporter --web.listen-address=127.0.0.1:{port}"
    process = subprocess.Popen(
        ["sh", "-c", f"{command} --collector.disable-defaults --collector.loadavg"], stderr=subprocess.DEVNULL
    )
    yield Exporter("node_exporter", port)
    process.terminate()
    process.wait()


def test_an_exporter_that_is_still_starting_is_waited_for(config: Config, late_exporter: Exporter) -> None:
    assert register(config, [late_exporter], wait_s=60) == ([late_exporter], {}, True)
    assert registered(config) == {"node_exporter"}
    assert register(config, [late_exporter], wait_s=10) == ([late_exporter], {}, False)


def test_one_that_never_answers_is_waited_for_no_longer_than_told(config: Config, closed_port: int) -> None:
    before = time.monotonic()
    done = register(config, [Exporter("dcgm-exporter", closed_port)], wait_s=1.5)
    assert time.monotonic() - before < 20
    assert done == ([], {"dcgm-exporter": "no answer: Connection refused"}, False)
    assert registered(config) == set()


def test_what_was_registered_and_is_silent_stays_and_what_is_not_offered_goes(config: Config, closed_port: int) -> None:
    silent, old = Exporter("node_exporter", closed_port), Exporter("old_exporter", 1)
    add_exporters(config["fsx.root"], NODE, "", [silent, old])
    assert register(config, [silent]).written
    assert registered(config) == {"node_exporter"}


def test_after_it_the_next_prolog_looks_and_asks_the_silent_ones_anew(config: Config) -> None:
    with socket.socket() as late:
        late.bind(("127.0.0.1", 0))
        exporter = Exporter("dcgm-exporter", late.getsockname()[1])
        shared_fs = SharedFs(config["fsx.root"], 5)
        assert register_new(NODE, [exporter], config, shared_fs) == []
        late.listen()
        assert register_new(NODE, [exporter], config, shared_fs) == []
        register(config, [])
        assert register_new(NODE, [exporter], config, shared_fs) == [exporter]
