from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_fsx_tools.containers.imports.credentials import (
    Credentials,
    auth_file,
    credentials_path,
    enroot_file,
    find_credentials,
)
from slurm_fsx_tools.errors import ConfigError, UntrustedFile

TEXT = """\
# NGC
machine nvcr.io login $oauthtoken password key-of-ngc
machine authn.nvidia.com login $oauthtoken password key-of-ngc
machine auth.docker.io login me password $HUB_TOKEN
machine lab.example:5000 login you password ${LAB_TOKEN}
machine lab.example login other password by-host-alone
machine gcr.io login oauth2accesstoken password $(gcloud auth print-access-token)
machine half.example login x
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / ".credentials"
    file.write_text(TEXT)
    file.chmod(0o600)
    return str(file)


@pytest.mark.parametrize(
    ("registry", "user", "password"),
    [
        pytest.param("nvcr.io", "$oauthtoken", "key-of-ngc", id="ngc"),
        pytest.param("docker.io", "me", "from-environment", id="variable"),
        pytest.param("lab.example:5000", "you", "in-braces", id="port"),
        pytest.param("lab.example:6000", "other", "by-host-alone", id="other-port"),
    ],
)
def test_a_registrys_line_is_found(path: str, registry: str, user: str, password: str) -> None:
    environ = {"HUB_TOKEN": "from-environment", "LAB_TOKEN": "in-braces", "oauthtoken": "never"}
    assert find_credentials(registry, path, environ) == Credentials(user, password)


def test_where_no_line_or_no_file_names_it_there_are_none(path: str) -> None:
    assert find_credentials("quay.io", path, {}) is None
    assert find_credentials("half.example", path, {}) is None
    assert find_credentials("nvcr.io", "/nonexistent/.credentials", {}) is None


@pytest.mark.usefixtures("needs_root")
def test_where_the_home_is_closed_to_the_user_there_are_none(path: str) -> None:
    folder = Path(path).parent
    folder.chmod(0o700)
    code = (
        "import os, sys\nfrom slurm_fsx_tools.containers.imports.credentials import find_credentials\n"
        "os.setresuid(2001, 2001, 2001)\nprint(find_credentials('nvcr.io', sys.argv[1], {}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("None\n", "")


def test_a_command_is_not_run(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{path}:7: a password that a command prints is not supported"):
        find_credentials("gcr.io", path, {})


def test_a_variable_that_is_not_set_is_named(path: str) -> None:
    with pytest.raises(ConfigError, match="HUB_TOKEN is not set"):
        find_credentials("docker.io", path, {})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_file_that_others_can_read_or_write_is_refused(path: str, mode: int) -> None:
    Path(path).chmod(mode)
    with pytest.raises(UntrustedFile, match=r"others|written"):
        find_credentials("nvcr.io", path, {})


def test_no_text_of_credentials_shows_the_password() -> None:
    credentials = Credentials("me", "secret")
    assert "secret" not in f"{credentials} {credentials!r} {[credentials]}"


def test_programs_get_files_in_their_own_form() -> None:
    credentials = Credentials("me", "a:b")
    document = json.loads(auth_file("lab.example:5000", credentials))
    assert base64.b64decode(document["auths"]["lab.example:5000"]["auth"]) == b"me:a:b"
    assert json.loads(auth_file("lab.example", None)) == {"auths": {}}
    assert enroot_file("docker.io", credentials).splitlines() == [
        f"machine {host} login me password a:b".encode()
        for host in ("docker.io", "registry-1.docker.io", "auth.docker.io", "index.docker.io")
    ]
    assert enroot_file("quay.io", None) == b""


@pytest.mark.parametrize("password", ["$(reboot)", "$HOME", "two words", "a\nmachine evil.example login x password y"])
def test_enroot_gets_no_password_that_it_would_evaluate(password: str) -> None:
    with pytest.raises(ConfigError, match="literally"):
        enroot_file("quay.io", Credentials("me", password))


def test_the_file_is_where_enroot_looks_for_it() -> None:
    assert credentials_path({"ENROOT_CONFIG_PATH": "/x", "HOME": "/h"}) == "/x/.credentials"
    assert credentials_path({"XDG_CONFIG_HOME": "/c", "HOME": "/h"}) == "/c/enroot/.credentials"
    assert credentials_path({"HOME": "/h"}) == "/h/.config/enroot/.credentials"
