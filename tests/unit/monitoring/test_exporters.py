from __future__ import annotations

import contextlib
import http.server
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.monitoring.exporters import Exporter, answering, listening, node_exporters

SITE = "a-sites-own"


@pytest.mark.parametrize(("gpu", "names"), [(False, ["node_exporter"]), (True, ["node_exporter", "dcgm-exporter"])])
def test_dcgm_exporter_is_offered_where_a_gpu_is(tmp_path: Path, gpu: bool, names: list[str]) -> None:
    driver = tmp_path / "version"
    if gpu:
        driver.touch()
    assert [exporter.name for exporter in node_exporters(Config(), str(driver))] == names


def test_an_exporter_is_there_where_its_port_takes_connections(listen: Callable[[], int], closed_port: int) -> None:
    there, gone = Exporter("node_exporter", listen()), Exporter("dcgm-exporter", closed_port)
    assert listening("localhost", [gone, there]) == [there]
    assert listening("localhost", []) == []


def test_a_name_that_means_nothing_has_no_exporter(listen: Callable[[], int]) -> None:
    assert listening("no-such-node.invalid", [Exporter("node_exporter", listen())]) == []


def test_a_silent_port_neither_waits_for_long_nor_hides_another(listen: Callable[[], int]) -> None:
    with socket.socket() as full:
        # With its queue full, a port answers nothing, as behind a firewall that drops packets.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(full.getsockname())
            time.sleep(0.05)
            silent, there = Exporter("silent", full.getsockname()[1]), Exporter("there", listen())
            assert listening("127.0.0.1", [silent, there], timeout_s=0.3) == [there]


@pytest.fixture
def serve() -> Iterator[Callable[[bytes, int], int]]:
    """Answer each GET with a text and a status, and give the port."""
    with contextlib.ExitStack() as stack:

        def start(body: bytes, status: int) -> int:
            class Handler(http.server.BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *_: object) -> None:
                    pass

            server = stack.enter_context(http.server.HTTPServer(("127.0.0.1", 0), Handler))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return int(server.server_address[1])

        yield start


@pytest.mark.parametrize(
    ("name", "body", "problem"),
    [
        pytest.param("dcgm-exporter", b'DCGM_FI_DEV_GPU_UTIL{gpu="0"} 7\n', "", id="dcgm"),
        pytest.param("dcgm-exporter", b"node_load1 0.1\n", "another program: /metrics has no DCGM_", id="not-dcgm"),
        pytest.param("node_exporter", b"up 1\n", "another program", id="not-node-exporter"),
        pytest.param(SITE, b'# HELP a b\na{b="c} d"} 1.5e3 1700000000\n', "", id="site"),
        pytest.param(SITE, b"lustre_reads_total 5\n", "", id="site-without-labels"),
        pytest.param(SITE, b"<html>\n<p>Sign in 1</p>", "another program: /metrics has no metric", id="a-page"),
        pytest.param(SITE, b"", "another program", id="nothing"),
    ],
)
def test_an_answer_tells_whether_it_is_the_exporters(
    serve: Callable[[bytes, int], int], name: str, body: bytes, problem: str
) -> None:
    said = answering("127.0.0.1", Exporter(name, serve(body, 200)), 10)
    assert said.startswith(problem) if problem else said == ""


def test_an_exporter_that_fails_is_named_with_its_status(serve: Callable[[bytes, int], int]) -> None:
    assert answering("127.0.0.1", Exporter(SITE, serve(b"a 1\n", 500)), 10) == "/metrics gives 500"


def test_a_port_that_nobody_listens_on_is_told(closed_port: int) -> None:
    assert answering("127.0.0.1", Exporter(SITE, closed_port), 10) == "no answer: Connection refused"


def test_a_program_that_never_answers_is_waited_for_no_longer_than_told(listen: Callable[[], int]) -> None:
    assert answering("127.0.0.1", Exporter(SITE, listen()), 0.2) == "no whole answer within 0.2 s"


def test_a_real_node_exporter_is_recognized(closed_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = ["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}", "--collector.disable-defaults"]
    exporter = Exporter("node_exporter", port)
    with subprocess.Popen([*command, "--collector.loadavg"], stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 20
            while not listening("127.0.0.1", [exporter]):
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.02)
            assert answering("127.0.0.1", exporter, 10) == ""
            assert answering("127.0.0.1", exporter._replace(name="dcgm-exporter"), 10).startswith("another program")
        finally:
            process.terminate()
