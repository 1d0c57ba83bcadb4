"""The EC2 instance type of this node: configured, or as the node's set-up found it at boot.

A prolog never asks a network. ``remember_instance_type`` is for set-up: it asks the instance's metadata service once,
by version 2 of its protocol, and leaves the answer in ``<runtime_dir>/instance-type``.
Source: Amazon EC2 User Guide, "Use the Instance Metadata Service to access instance metadata".
"""

from __future__ import annotations

import os

from ..config.model import is_instance_type
from ..errors import SlurmFsxError
from ..files import read_trusted, write_atomically

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config.model import Config

SERVICE = "169.254.169.254"
"""The metadata service's address, which is the same on every instance."""

TIMEOUT_S = 2.0
_TOKEN_PATH = "/latest/api/token"  # noqa: S105  # where a token is to be had
_TYPE_PATH = "/latest/meta-data/instance-type"
_TOKEN_TTL_S = 60
_ANSWER_LIMIT_BYTES = 1024


class InstanceUnknown(SlurmFsxError):
    """A metadata service that does not tell the instance type."""


def instance_type(config: Config) -> str:
    """Give this node's instance type; empty where nobody has said."""
    configured: str = config["nccl.instance_type"]
    if configured:
        return configured
    try:
        text = read_trusted(_path(config), _ANSWER_LIMIT_BYTES).decode("ascii", "replace").strip()
    except (OSError, SlurmFsxError):
        return ""
    return text if is_instance_type(text) else ""


def remember_instance_type(config: Config, host: str = SERVICE, port: int = 80, timeout_s: float = TIMEOUT_S) -> str:
    """Ask the metadata service, write down what it says, and give it. For root, once at boot.

    Raises:
        InstanceUnknown: as for `fetch_instance_type`.
        OSError: the runtime folder cannot be written to.
    """
    found = fetch_instance_type(host, port, timeout_s)
    if not os.path.isdir(config["runtime_dir"]):
        os.mkdir(config["runtime_dir"], 0o755)
    write_atomically(_path(config), f"{found}\n".encode())
    return found


def fetch_instance_type(host: str = SERVICE, port: int = 80, timeout_s: float = TIMEOUT_S) -> str:
    """Ask the metadata service for the instance type, by IMDSv2: first for a token, then with it.

    Takes at most about twice `timeout_s`, and no proxy.

    Raises:
        InstanceUnknown: there is no such service, it refuses, or its answer is no instance type.
    """
    import http.client

    hint = "set nccl.instance_type in the configuration"
    try:
        token = _ask(host, port, timeout_s, "PUT", _TOKEN_PATH, {"X-aws-ec2-metadata-token-ttl-seconds": _TOKEN_TTL_S})
        found = _ask(host, port, timeout_s, "GET", _TYPE_PATH, {"X-aws-ec2-metadata-token": token})
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise InstanceUnknown(f"{host} does not tell the instance type: {error}", hint=hint) from error
    if not is_instance_type(found):
        raise InstanceUnknown(f"{host} says {found[:40]!r}, which is no instance type", hint=hint)
    return found


def _ask(host: str, port: int, timeout_s: float, verb: str, path: str, headers: dict[str, object]) -> str:
    import http.client

    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request(verb, path, headers={name: str(value) for name, value in headers.items()})
        response = connection.getresponse()
        text = response.read(_ANSWER_LIMIT_BYTES).decode("ascii", "replace").strip()
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise ValueError(f"{verb} {path} gives {response.status} {response.reason}")
    return text


def _path(config: Config) -> str:
    return f"{config['runtime_dir']}/instance-type"
