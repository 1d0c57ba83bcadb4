from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.nccl.instance import (
    InstanceUnknown,
    fetch_instance_type,
    instance_type,
    remember_instance_type,
)


class MetadataService:
    """A stand-in of the instance metadata service, version 2: no answer without a token that it gave."""

    def __init__(self) -> None:
        self.answer = "p5.48xlarge"
        self.gives_tokens = True
        self.requests: list[str] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def reply(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def do_PUT(self) -> None:  # http.server calls it
                service.requests.append(f"PUT {self.path}")
                ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
                if service.gives_tokens and self.path == "/latest/api/token" and ttl.isdigit():
                    self.reply(200, "a-token")
                else:
                    self.reply(403, "")

            def do_GET(self) -> None:
                service.requests.append(f"GET {self.path}")
                if self.headers.get("X-aws-ec2-metadata-token") != "a-token":
                    self.reply(401, "")
                elif self.path == "/latest/meta-data/instance-type":
                    self.reply(200, service.answer)
                else:
                    self.reply(404, "")

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]


@pytest.fixture
def service() -> Iterator[MetadataService]:
    service = MetadataService()
    thread = threading.Thread(target=service.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield service
    service.server.shutdown()
    service.server.server_close()
    thread.join()


def config(folder: Path, **values: object) -> Config:
    return Config({"runtime_dir": str(folder / "run"), **{f"nccl.{key}": value for key, value in values.items()}})


def test_the_service_is_asked_with_a_token_and_the_node_remembers(service: MetadataService, tmp_path: Path) -> None:
    assert remember_instance_type(config(tmp_path), "127.0.0.1", service.port) == "p5.48xlarge"
    assert service.requests == ["PUT /latest/api/token", "GET /latest/meta-data/instance-type"]
    assert instance_type(config(tmp_path)) == "p5.48xlarge"
    assert len(service.requests) == 2
    assert (tmp_path / "run/instance-type").stat().st_mode & 0o777 == 0o644


def test_no_proxy_is_asked(service: MetadataService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetch_instance_type("127.0.0.1", service.port) == "p5.48xlarge"


@pytest.mark.parametrize("answer", ["", "<html>", "p5", "../x.y", "a.b\nc", "x" * 5000])
def test_what_is_no_instance_type_is_refused(service: MetadataService, answer: str) -> None:
    service.answer = answer
    with pytest.raises(InstanceUnknown, match="instance type"):
        fetch_instance_type("127.0.0.1", service.port)


def test_a_service_that_refuses_and_none_at_all_are_said(service: MetadataService, tmp_path: Path) -> None:
    service.gives_tokens = False
    with pytest.raises(InstanceUnknown, match="403"):
        remember_instance_type(config(tmp_path), "127.0.0.1", service.port)
    assert not (tmp_path / "run").exists()
    service.server.server_close()
    with pytest.raises(InstanceUnknown, match=r"nccl\.instance_type"):
        fetch_instance_type("127.0.0.1", service.port, timeout_s=1)


def test_what_is_configured_counts(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/instance-type").write_text("p5.48xlarge\n")
    assert instance_type(config(tmp_path, instance_type="p4d.24xlarge")) == "p4d.24xlarge"


@pytest.mark.parametrize("text", ["", "nonsense", "\xff", "p5.48xlarge\n" * 200])
def test_a_damaged_file_is_no_word(tmp_path: Path, text: str) -> None:
    (tmp_path / "run").mkdir()
    assert instance_type(config(tmp_path)) == ""
    (tmp_path / "run/instance-type").write_text(text, encoding="latin-1")
    assert instance_type(config(tmp_path)) == ""


def test_a_file_that_others_could_have_written_is_no_word(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    path = tmp_path / "run/instance-type"
    path.write_text("p5.48xlarge\n")
    os.chmod(path, 0o666)
    assert instance_type(config(tmp_path)) == ""
