"""Steps that have a node's CloudWatch agent send Slurm's logs, ours, and the node's metrics."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import NotHere
from ..monitoring.cloudwatch.configuration import check_config
from .steps import Command, File, Folder

if TYPE_CHECKING:
    from ..monitoring.cloudwatch.agent import CloudWatchAgent
    from ..monitoring.cloudwatch.configuration import Rendered
    from .steps import Record, Step

RECORD = "cloudwatch"
PATH = "/etc/slurm-fsx/slurm-fsx-cloudwatch.json"
"""The agent keeps a copy under the last part of the name, next to those of others."""

TIMEOUT_S = 300.0
"""As long as ParallelCluster waits for the same command, which restarts the agent."""


def cloudwatch_steps(rendered: Rendered, agent: CloudWatchAgent) -> list[Step]:
    """List the steps: the file, and that the agent knows it.

    Raises:
        ConfigError: the agent would not take the configuration.
    """
    check_config(rendered.config)

    def is_known(record: Record) -> bool:
        if record.root == "/" and not agent.is_installed():
            raise NotHere(
                f"there is no CloudWatch agent on this node: {agent.control} is missing",
                hint="install amazon-cloudwatch-agent (ParallelCluster's images have it), then run this again",
            )
        return record.root == "/" and agent.has(PATH)

    return [
        Folder(os.path.dirname(PATH), accepts_any=True),
        File(PATH, rendered.text()),
        Command(
            "have the CloudWatch agent read its configuration",
            agent.append_command(PATH),
            is_known,
            undo_arguments=agent.remove_command(PATH),
            timeout_s=TIMEOUT_S,
        ),
    ]
