"""A shared file system, a node, and programs that listen on it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Callable

import pytest

from slurm_fsx_tools.config.model import Config


@pytest.fixture
def fsx(tmp_path: Path) -> Path:
    """A shared file system on which the head node's set-up has run."""
    (tmp_path / "fsx/monitoring/targets").mkdir(parents=True)
    return tmp_path / "fsx"


@pytest.fixture
def config(tmp_path: Path, fsx: Path) -> Config:
    """A configuration of that file system, with a runtime folder that a prolog has made."""
    (tmp_path / "run").mkdir()
    return Config({"fsx.root": str(fsx), "runtime_dir": str(tmp_path / "run"), "fsx.timeout": 5.0})


@pytest.fixture
def listen() -> Iterator[Callable[[], int]]:
    """Open a port that takes connections, and give its number."""
    with ExitStack() as stack:

        def open_port() -> int:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            return int(server.getsockname()[1])

        yield open_port


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens on, and nobody else can take."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]
