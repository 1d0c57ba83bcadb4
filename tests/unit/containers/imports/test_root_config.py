from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_fsx_tools.containers.imports.root_config import ImageConfig

WORDS = st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1), max_size=4)


def parse(**config: object) -> ImageConfig:
    return ImageConfig.parse(json.dumps({"architecture": "amd64", "config": config}))


def run(config: ImageConfig, *arguments: str) -> list[str]:
    """Give the command that a container's start would run."""
    done = subprocess.run(["sh", "-c", config.format_start(), "rc", *arguments], capture_output=True, check=True)
    return done.stdout.decode().split("\0")[:-1]


@settings(max_examples=30)
@given(words=WORDS)
def test_entrypoint_and_command_reach_the_program_as_the_image_has_them(words: list[str]) -> None:
    printf = [shutil.which("printf") or "/usr/bin/printf", "%s\\0", "first"]
    assert run(parse(Entrypoint=printf, Cmd=words)) == ["first", *words]
    assert run(parse(Entrypoint=printf, Cmd=["unused"]), *words) == ["first", *(words or ["unused"])]
    assert run(parse(Cmd=[*printf, *words])) == ["first", *words]


def test_without_a_command_there_is_a_shell() -> None:
    assert "set -- /bin/sh\n" in parse().format_start()


@pytest.mark.parametrize("folder", ["/a b; reboot", "../../etc", "//etc", "$(reboot)"])
def test_a_folder_is_one_absolute_path(folder: str) -> None:
    config = parse(WorkingDir=folder)
    assert config.folder.startswith("/")
    assert ".." not in config.folder.split("/")
    subprocess.run(["sh", "-n", "-c", config.format_start()], check=True)


def test_variables_and_volumes_that_cannot_be_written_down_are_left_out() -> None:
    config = parse(Env=["A=1", "B=two\nlines", "nothing"], Volumes={"/data": {}, "/a b": {}, "../x": {}})
    assert config.format_environment() == "A=1\n"
    assert config.format_mounts() == "${ENROOT_ROOTFS}/data /data none x-create=dir,bind,rw,nosuid,nodev\n"
