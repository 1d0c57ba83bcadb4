"""Which way of asking Slurm is used on this cluster: the first that works, and why the others were passed over."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from .commands import TIMEOUT_S, CommandClient, WayUnfit
from .json_client import JsonClient
from .pyslurm_client import PyslurmClient
from .text_client import TextClient

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..slurm_state import SlurmJob, SlurmNode

    Way = PyslurmClient | JsonClient | TextClient

_T = TypeVar("_T")


class PassedOver(NamedTuple):
    """A way of asking that does not work here."""

    name: str
    """``pyslurm`` or ``--json``."""

    reason: str


class ChosenClient(CommandClient):
    """Asks by the first way that works, and keeps to it.

    A way that does not work here is passed over for the life of this client. Where slurmctld itself does not answer,
    none is: the error says so at once.

    Args:
        ways: The clients, the best one first.
        timeout_s: How long one command may take.

    Attributes:
        passed_over: The ways that did not work, with the reasons.
    """

    def __init__(self, ways: Sequence[Way], timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(timeout_s)
        self._ways = list(ways)
        self.passed_over: list[PassedOver] = []

    @property
    def name(self) -> str:
        """The way that answered last, or would be asked next: ``pyslurm``, ``--json`` or ``text``."""
        return self._ways[0].name

    def nodes(self) -> list[SlurmNode]:
        return self._first(lambda way: way.nodes())

    def jobs(self) -> list[SlurmJob]:
        return self._first(lambda way: way.jobs())

    def job(self, job_id: int) -> SlurmJob | None:
        return self._first(lambda way: way.job(job_id))

    def explain(self) -> list[str]:
        """Say which way is used, and why each better one is not, a line each."""
        return [
            *(f"{name} passed over: {reason}" for name, reason in self.passed_over),
            f"Slurm is asked by {self.name}",
        ]

    def _first(self, ask: Callable[[Way], _T]) -> _T:
        while True:
            try:
                return ask(self._ways[0])
            except WayUnfit as error:
                if len(self._ways) == 1:
                    raise
                self.passed_over.append(PassedOver(self._ways.pop(0).name, error.message))


def choose_client(timeout_s: float = TIMEOUT_S, pyslurm_folders: Sequence[str] = ()) -> ChosenClient:
    """Give the client that commands use: pyslurm where it fits, else ``--json``, else text.

    Args:
        timeout_s: How long one command may take.
        pyslurm_folders: Where pyslurm may be besides this installation.
    """
    ways: list[Way] = [PyslurmClient(timeout_s, folders=pyslurm_folders), JsonClient(timeout_s), TextClient(timeout_s)]
    return ChosenClient(ways, timeout_s)
