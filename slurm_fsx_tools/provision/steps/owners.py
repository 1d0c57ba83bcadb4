"""Users and groups of a machine, or of a system below another root."""

from __future__ import annotations

import grp
import os
import pwd
from typing import NamedTuple

from ...errors import StepFailed


class Owners(NamedTuple):
    """Numbers of users and groups by name."""

    root: str

    def ids(self, owner: str, group: str) -> tuple[int, int]:
        """Give the numbers of a user and a group.

        Below another root they are those of its own ``/etc/passwd``; who is not root there gets everything himself.

        Raises:
            StepFailed: there is no such user or group yet.
        """
        if self.root != "/" and os.geteuid() != 0:
            return os.geteuid(), os.getegid()
        try:
            if self.root == "/":
                return pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid
            return self._number("passwd", owner), self._number("group", group)
        except KeyError:
            raise StepFailed(
                f"there is no user {owner} with group {group} on this system", hint="install the package that makes it"
            ) from None

    def _number(self, table: str, name: str) -> int:
        if name == "root":
            return 0
        try:
            with open(f"{self.root.rstrip('/')}/etc/{table}") as file:
                lines = [line.split(":") for line in file]
        except FileNotFoundError:
            raise KeyError(name) from None
        return {fields[0]: int(fields[2]) for fields in lines if len(fields) > 2}[name]
