"""Credentials of registries, from the file that enroot reads, too.

A line of ``.credentials`` is ``machine HOST login USER password PASSWORD``. A password ``$NAME`` or ``${NAME}`` is
taken from the environment. Where enroot would run ``$(COMMAND)``, this refuses: no file makes root run commands.
Source: enroot, doc/cmd/import.md.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import ConfigError, UntrustedFile
from ...files import open_trusted, read_all

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = ".credentials"
LIMIT_BYTES = 1 << 20

_OTHER_NAMES = {
    "docker.io": ("registry-1.docker.io", "auth.docker.io", "index.docker.io"),
    "nvcr.io": ("authn.nvidia.com",),
}
"""Hosts that enroot's documentation has people write for a registry. They are fixed: a registry that names some host
to fetch a token from must not get the token of that host's users.
"""

_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})\Z")


@dataclass(frozen=True, repr=False)
class Credentials:
    """A user of a registry. Its text shows no password, wherever it is printed."""

    user: str
    password: str

    @property
    def basic(self) -> str:
        """The value of a header ``Authorization: Basic``."""
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r})"


def credentials_path(environ: Mapping[str, str]) -> str:
    """Give the path of the file that enroot reads for this user."""
    folder = environ.get("ENROOT_CONFIG_PATH")
    if not folder:
        base = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME') or os.path.expanduser('~')}/.config"
        folder = f"{base}/enroot"
    return f"{folder}/{FILE}"


def find_credentials(registry: str, path: str, environ: Mapping[str, str]) -> Credentials | None:
    """Give who a registry knows us as; None where its file is out of reach or does not name it.

    Args:
        registry: ``nvcr.io``, ``localhost:5000``; lines name it with or without its port.
        path: The file; others than its owner must not be able to read it.
        environ: Where ``$NAME`` is looked up.

    Raises:
        UntrustedFile: others can read or change the file.
        ConfigError: the registry's line makes no sense, or needs what is not there.
    """
    try:
        text = _read_private(path)
    except OSError as error:
        # A home that is closed to this user, as on a node without it, has no credentials for us.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return None
        raise
    hosts = (registry, registry.partition(":")[0], *_OTHER_NAMES.get(registry, ()))
    lines = list(_lines(text, path))
    for host in hosts:
        for number, machine, user, password in lines:
            if machine == host:
                return Credentials(user, _expand(password, f"{path}:{number}", environ))
    return None


def auth_file(registry: str, credentials: Credentials | None) -> bytes:
    """Give the content of a file for skopeo's ``--authfile``.

    Source: containers-auth.json(5).
    """
    auths = {registry: {"auth": credentials.basic}} if credentials else {}
    return json.dumps({"auths": auths}).encode()


def enroot_file(registry: str, credentials: Credentials | None) -> bytes:
    """Give the content of enroot's own file for one registry, with nothing left to evaluate.

    Raises:
        ConfigError: enroot would evaluate the password, or cut it.
    """
    if credentials is None:
        return b""
    if credentials.password.startswith("$") or len(credentials.password.split()) != 1:
        raise ConfigError(
            f"enroot cannot take the password for {registry} literally", hint="import with: --with skopeo"
        )
    hosts = (registry.partition(":")[0], *_OTHER_NAMES.get(registry, ()))
    lines = [f"machine {host} login {credentials.user} password {credentials.password}\n" for host in hosts]
    return "".join(lines).encode()


def _read_private(path: str) -> str:
    fd = open_trusted(path)
    try:
        if os.fstat(fd).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise UntrustedFile(f"{path} holds passwords, and others can read it", hint=f"run: chmod 600 {path}")
        return read_all(fd, path, LIMIT_BYTES).decode(errors="surrogateescape")
    finally:
        os.close(fd)


def _lines(text: str, path: str) -> list[tuple[int, str, str, str]]:
    """Give number, machine, user and password of each line that has all three."""
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.split(None, 5)
        if len(words) == 6 and (words[0], words[2], words[4]) == ("machine", "login", "password"):
            found.append((number, words[1].lower(), words[3], words[5].strip()))
    return found


def _expand(password: str, place: str, environ: Mapping[str, str]) -> str:
    if password.startswith(("$(", "`")):
        raise ConfigError(
            f"{place}: a password that a command prints is not supported: no file makes root run commands",
            hint="put the command's output into the environment, and write password $NAME",
        )
    variable = _VARIABLE.match(password)
    if not variable:
        return password
    name = variable.group(1) or variable.group(2)
    if not environ.get(name):
        raise ConfigError(f"{place}: {name} is not set in the environment", hint=f"export {name}, or write the token")
    return environ[name]
