"""Fixtures that every kind of test uses."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline: a busy machine is no failure. In CI the same examples each time: finding new ones is for developers.
settings.register_profile("project", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("project")

# A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C; some send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The folder of this checkout."""
    return CHECKOUT


@pytest.fixture
def needs_root() -> None:
    """Skips a test that changes owners, where it cannot."""
    if os.geteuid() != 0:
        pytest.skip("changes the owner of files: run as root")


@pytest.fixture(scope="session")
def core_tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CHECKOUT / "spank" plugin's readers as a program, built with sanitizers."""
    if not shutil.which("make") or not shutil.which("cc"):
        pytest.skip("needs a C compiler and make")
    build = tmp_path_factory.mktemp("spank")
    subprocess.run(
        ["make", "-C", CHECKOUT / "spank", f"BUILD={build}", f"{build}/core_tool"], check=True, capture_output=True
    )
    return build / "core_tool"
