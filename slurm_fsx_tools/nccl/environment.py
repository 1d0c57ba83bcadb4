"""What a job's environment gets of an installation, and why."""

from __future__ import annotations

from ..jobenv import HOST, LIBRARY, Operation
from ..values import NamedTuple
from .choice import OFF
from .conditions import Facts
from .instance import instance_type
from .manifest import FILE, version_folder
from .profiles import DOCUMENTED_VALUES, Profile, profile_names, select_profile
from .survey import SETUP_SCRIPT, VERSION_FILE
from .variables import BY_NAME, STOPS_TUNER, TUNER_THREAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config.model import Config
    from ..job import Job
    from .installation import Installation

SYSTEM_LIBRARIES = "/usr/local/lib"
"""Where the documented installation puts its tools' libraries on each node."""

_LIBRARY_LISTS = {"LD_LIBRARY_PATH": "programs", "LIBRARY_PATH": "compilers"}

_SCOPES = {"auto": LIBRARY, "never": HOST, "always": ""}
"""By ``nccl.in_container``."""


class Row(NamedTuple):
    """One operation on a job's environment, and its reason."""

    operation: Operation
    why: str
    source: str
    """Where the reason can be read: a file, or a page."""

    note: str = ""


def is_wanted(job: Job, config: Config) -> bool:
    """Whether a job gets anything at all."""
    return bool(config["nccl.enabled"]) and job.nccl != OFF


def facts_of(installation: Installation | None, config: Config) -> Facts:
    """Give what is known of an installation's software, and of this node."""
    if installation is None:
        return Facts(instance=instance_type(config))
    return Facts(
        installation.nccl or installation.version, installation.ofi, installation.libfabric, instance_type(config)
    )


def nccl_operations(
    job: Job, installation: Installation | None, config: Config, profile: str | None = None
) -> list[Operation]:
    """Give what happens to a job's environment; what the user has set wins."""
    return [row.operation for row in explain(installation, config, profile)] if is_wanted(job, config) else []


def explain(installation: Installation | None, config: Config, profile: str | None = None) -> list[Row]:
    """Give each operation of `nccl_operations`, in order, with its reason.

    A variable of the documented set is the profile's to give or leave out, unless the setup script has another value
    for it: that one somebody chose.

    Args:
        installation: What stands in the shared folder.
        config: The configuration.
        profile: A profile's name; the configured one without it.
    """
    if installation is None or not installation.is_trusted:
        return []
    selected = select_profile(profile or config["nccl.profile"], config, facts_of(installation, config))
    return list(_rows(installation, selected, _SCOPES[config["nccl.in_container"]]))


def notes(installation: Installation | None, config: Config, profile: str | None = None) -> list[str]:
    """Give what an admin should read about these operations."""
    result: list[str] = []
    if installation is None:
        return result
    result += installation.notes
    name, setting = config["nccl.profile"], f"nccl.profile in {config.path}"
    if name not in profile_names(config):
        used, known = select_profile(name, config).name, ", ".join(profile_names(config))
        result.append(f"{setting} is {name!r}, which is none: jobs get {used}; write one of {known}")
    given = {row.operation.name for row in explain(installation, config, profile)}
    stops = [variable for variable in STOPS_TUNER if variable in given]
    if installation.tuner and stops:
        result.append(
            f"{' and '.join(stops)} keep the tuner in {installation.tuner} from loading ({TUNER_THREAD}); "
            f"{setting} chooses which variables jobs get"
        )
    return result


def _rows(installation: Installation, profile: Profile, scope: str) -> Iterator[Row]:
    script = f"{installation.folder}/{SETUP_SCRIPT}"
    library = [*installation.library_folders, SYSTEM_LIBRARIES]
    # What the script adds goes in first: each prepend stands before the last one, and the library is to be found first.
    for name, entries in installation.lists.items():
        others = [entry for entry in entries if name not in _LIBRARY_LISTS or entry not in library]
        if others:
            operation = Operation("prepend", name, ":".join(others), scope)
            yield Row(operation, "the setup script puts these in front", script)
    for name, reader in _LIBRARY_LISTS.items():
        operation = Operation("prepend", name, ":".join(library), scope)
        yield Row(operation, f"lets {reader} find this NCCL and its network plugin", installation.folder)
    if installation.version:
        # It names the library, so it goes where the library goes.
        operation = Operation("default", "NCCL_VERSION", installation.version, scope)
        file = f"{version_folder(installation.folder, installation.id)}/{FILE}" if installation.id else ""
        yield Row(operation, "names the library's version", file or f"{installation.folder}/{VERSION_FILE}")
    variables = dict(installation.variables)
    yield from _profile_rows(profile, variables, script)
    given = {variable.name for variable in profile.variables}
    for name, value in variables.items():
        if DOCUMENTED_VALUES.get(name) == value:
            continue
        new_name = BY_NAME[name].new_name if profile.renames and name in BY_NAME else ""
        if not new_name:
            yield Row(Operation("default", name, value), "the setup script exports it", script)
        elif new_name not in variables and new_name not in given:
            note = f"{name} is an old name of {new_name} ({BY_NAME[name].source})"
            yield Row(Operation("default", new_name, value), f"the setup script exports {name}", script, note)


def _profile_rows(profile: Profile, variables: dict[str, str], script: str) -> Iterator[Row]:
    """Give a profile's rows, and take the names out of what the setup script exports."""
    for variable in profile.variables:
        value = variables.pop(variable.name, variable.value)
        if value == variable.value:
            yield Row(Operation("default", variable.name, value), variable.purpose, variable.source, variable.caveat)
        else:
            note = f"profile {profile.name} would set {variable.value}"
            yield Row(Operation("default", variable.name, value), "the setup script exports it", script, note)
