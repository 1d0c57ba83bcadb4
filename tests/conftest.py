"""Fixtures that every kind of test uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
