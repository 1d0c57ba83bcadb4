"""Loads built-in and site plugins, and calls them so that one cannot hurt the rest."""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from . import hookspecs
from .deadline import Limit
from .errors import DeadlineExceeded, SlurmFsxError, UntrustedFile
from .files import check_owner, check_trusted, read_trusted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Failure = Callable[[str, BaseException], None]
    """Told a plugin's name with what it was doing, and what it raised."""

ENTRY_POINT_GROUP = "slurm_fsx"

BUILTIN_PLUGINS = {
    "containers": "slurm_fsx_tools.containers.plugin",
    "nccl": "slurm_fsx_tools.nccl.plugin",
    "monitoring": "slurm_fsx_tools.monitoring.plugin",
}
"""Loaded by dotted name, so that a site can block one and no other module has to be edited."""


class EntryPoint(NamedTuple):
    """A plugin that an installed distribution offers."""

    name: str
    value: str
    """``package.module``."""


class Plugin(NamedTuple):
    """A plugin that is active."""

    name: str
    origin: str
    """``built-in``, or the file it was loaded from."""

    hooks: tuple[str, ...]


class PluginSet:
    """The plugins of one process, in the order in which they have their say.

    Args:
        timeout_s: How long one plugin may take to load, and in one hook.
        on_failure: Told of each plugin that was skipped, with the reason.
    """

    def __init__(self, timeout_s: float, on_failure: Failure) -> None:
        self._timeout_s = timeout_s
        self._on_failure = on_failure
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._origins: dict[str, str] = {}

    def load_builtin(self, blocked: Iterable[str] = ()) -> None:
        """Load the product's own plugins, but for the blocked ones."""
        for name, module in BUILTIN_PLUGINS.items():
            if name not in blocked:
                self._load(name, "built-in", lambda module=module: _import(module))

    def load_entry_points(self, entry_points: Iterable[EntryPoint]) -> None:
        """Load what installed distributions offer; modules that others than root could have written are skipped."""
        for entry_point in entry_points:
            self._load(entry_point.name, entry_point.value, lambda value=entry_point.value: _import_trusted(value))

    def load_folder(self, folder: str) -> None:
        """Load each ``*.py`` of a folder, in the order of their names; a missing folder holds none."""
        try:
            names = sorted(name for name in os.listdir(folder) if name.endswith(".py") and not name.startswith("."))
            check_owner(folder, os.stat(folder))
        except FileNotFoundError:
            return
        except (OSError, UntrustedFile) as error:
            self._on_failure(folder, error)
            return
        for name in names:
            path = os.path.join(folder, name)
            self._load(name[: -len(".py")], path, lambda path=path: _execute(path))

    def register(self, plugin: object, name: str, origin: str = "") -> None:
        """Make a plugin active.

        Raises:
            pluggy.PluginValidationError: one of its hooks does not exist, or takes an argument that the hook has not.
        """
        if self._manager.has_plugin(name):
            raise SlurmFsxError(f"there are two plugins named {name}", hint="rename the one of the site")
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()
            for hook in self._manager.get_hookcallers(plugin) or ():
                if any(impl.wrapper or impl.hookwrapper for impl in hook.get_hookimpls()):
                    raise SlurmFsxError(f"{hook.name} is a wrapper", hint="implement the hook itself")
        except Exception:
            self._manager.unregister(plugin)
            raise
        self._origins[name] = origin

    def plugins(self) -> list[Plugin]:
        """List the active plugins, built-ins first."""
        return [
            Plugin(name, origin, tuple(sorted(hook.name for hook in self._hooks_of(name))))
            for name, origin in self._origins.items()
        ]

    def implementers(self, hook_name: str) -> list[str]:
        """Name the plugins that a hook calls, in the order of the calls."""
        return [impl.plugin_name for impl in self._implementations(hook_name)]

    def call_each(self, hook_name: str, **arguments: Any) -> list[Any]:
        """Call every plugin's implementation of a hook; give the answers that are not None, in the order of the calls.

        An implementation that raises or outlasts its time is reported and skipped.
        """
        return list(self._answers(hook_name, arguments))

    def call_first(self, hook_name: str, **arguments: Any) -> Any:
        """Call implementations of a hook until one answers; give that answer, or None.

        Raises:
            SlurmFsxError: as an implementation raised it, when no other answered: it is the answer to the user.
        """
        refusal: list[SlurmFsxError] = []
        for answer in self._answers(hook_name, arguments, refusal):
            return answer
        if refusal:
            raise refusal[0]
        return None

    def _answers(
        self, hook_name: str, arguments: dict[str, Any], refusal: list[SlurmFsxError] | None = None
    ) -> Iterator[Any]:
        for impl in self._implementations(hook_name):
            try:
                with Limit(self._timeout_s, f"plugin {impl.plugin_name}"):
                    answer = impl.function(*(arguments[name] for name in impl.argnames))
            except (Exception, SystemExit) as error:
                if refusal is not None and isinstance(error, SlurmFsxError) and not isinstance(error, DeadlineExceeded):
                    refusal.append(error)
                else:
                    self._on_failure(f"{impl.plugin_name}: {hook_name}", error)
            else:
                if answer is not None:
                    yield answer

    def _implementations(self, hook_name: str) -> list[Any]:
        return list(reversed(getattr(self._manager.hook, hook_name).get_hookimpls()))

    def _hooks_of(self, name: str) -> list[Any]:
        plugin = self._manager.get_plugin(name)
        return self._manager.get_hookcallers(plugin) or [] if plugin else []

    def _load(self, name: str, origin: str, module: Callable[[], ModuleType]) -> None:
        try:
            with Limit(self._timeout_s, f"loading {origin}"):
                self.register(module(), name, origin)
        except (Exception, SystemExit) as error:
            self._on_failure(name, error)


def _import(name: str) -> ModuleType:
    __import__(name)
    return sys.modules[name]


def _import_trusted(name: str) -> ModuleType:
    """Import a module after a look at who may write to its file, and to the folder that holds it."""
    from importlib.machinery import PathFinder

    path = None
    for depth in range(1, name.count(".") + 2):
        package = ".".join(name.split(".")[:depth])
        spec = PathFinder.find_spec(package, path)
        if spec is None or not spec.origin:
            raise SlurmFsxError(f"there is no module {name}", hint="install its distribution again, or remove it")
        check_trusted(spec.origin, os.stat(spec.origin))
        folder = os.path.dirname(spec.origin)
        check_owner(folder, os.stat(folder))
        path = spec.submodule_search_locations
    return _import(name)


def _execute(path: str) -> ModuleType:
    """Run a single-file plugin from the bytes that were checked; its folder never enters ``sys.path``."""
    source = read_trusted(path)
    module = ModuleType("slurm_fsx_plugins_d." + os.path.basename(path)[: -len(".py")])
    module.__file__ = path
    exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102  # root's own file, checked on the descriptor
    return module
