"""Loads built-in and site plugins, and calls them so that one cannot hurt the rest.

Site plugins are pluggy's. Built-in ones are modules that hold functions of the hooks' names, called straight: pluggy
takes longer to import than the rest of the prolog to run, and most nodes have no site plugin. A built-in is asked last
where the first answer wins, and writes first where all have their say, so the site always has the last word.
"""

from __future__ import annotations

import os
import sys

from .deadline import Limit
from .errors import DeadlineExceeded, SlurmFsxError, UntrustedFile
from .files import check_owner, check_trusted, read_trusted
from .values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType
    from typing import Any

    import pluggy

    from .config.model import Snapshot

    Failure = Callable[[str, BaseException], None]
    """Told a plugin's name with what it was doing, and what it raised."""

BUILTIN_PLUGINS = {
    "containers": "slurm_fsx_tools.containers.plugin",
    "nccl": "slurm_fsx_tools.nccl.plugin",
    "monitoring": "slurm_fsx_tools.monitoring.plugin",
}
"""Loaded by dotted name, so that a site can block one and no other module has to be edited."""

HOOK_PREFIX = "slurm_fsx_"

FIRST_ANSWER_WINS = ("slurm_fsx_resolve_container",)
"""The hooks that are asked until one plugin answers; `hookspecs` says the same to pluggy."""


class Plugin(NamedTuple):
    """A plugin that is active."""

    name: str
    origin: str
    """``built-in``, the file it was loaded from, or the module of an installed distribution."""

    hooks: tuple[str, ...]


class Implementation(NamedTuple):
    """One plugin's function for one hook."""

    plugin: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]
    """The hook's arguments that this function takes."""


def load_plugins(snapshot: Snapshot, on_failure: Failure) -> PluginSet:
    """Load every plugin that a configuration calls for: built-in ones, installed ones, and single files.

    Args:
        snapshot: The configuration, with the plugins that installed distributions offer.
        on_failure: Told of each plugin that was skipped, with the reason; then and later.
    """
    config = snapshot.config
    plugins = PluginSet(config["prolog.plugin_timeout"], on_failure)
    plugins.load_builtin(blocked=config["prolog.block"])
    plugins.load_entry_points(snapshot.entry_points)
    plugins.load_folder(config["prolog.plugins_dir"])
    return plugins


class PluginSet:
    """The plugins of one process, in the order in which they have their say.

    Args:
        timeout_s: How long one plugin may take to load, and in one hook.
        on_failure: Told of each plugin that was skipped, with the reason.
    """

    def __init__(self, timeout_s: float, on_failure: Failure) -> None:
        self._timeout_s = timeout_s
        self._on_failure = on_failure
        self._origins: dict[str, str] = {}
        self._builtin: dict[str, ModuleType] = {}
        self._site: pluggy.PluginManager | None = None
        self._sound: list[tuple[object, str]] = []

    def load_builtin(self, blocked: Iterable[str] = ()) -> None:
        """Load the product's own plugins, but for the blocked ones."""
        for name, module in BUILTIN_PLUGINS.items():
            if name not in blocked:
                self._load(name, "built-in", self._add_builtin, module)

    def load_entry_points(self, entry_points: Iterable[tuple[str, str]]) -> None:
        """Load what installed distributions offer, as name and module; only from files that root alone can write."""
        for name, module in entry_points:
            self._load(name, module, self._add_module, module)

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
            self._load(name[: -len(".py")], path, self._add_file, path)

    def register(self, plugin: object, name: str, origin: str = "") -> None:
        """Make a site plugin active.

        Raises:
            pluggy.PluginValidationError: one of its hooks does not exist, or takes an argument that the hook has not.
            SlurmFsxError: its name is taken, or it implements a hook as a wrapper.
        """
        if name in self._origins:
            raise SlurmFsxError(f"there are two plugins named {name}", hint="rename the site's")
        manager = self._pluggy()
        try:
            manager.register(plugin, name)
            manager.check_pending()
            for hook in manager.get_hookcallers(plugin) or ():
                if any(impl.wrapper or impl.hookwrapper for impl in hook.get_hookimpls()):
                    raise SlurmFsxError(f"{hook.name} is a wrapper", hint="implement the hook itself")
        except Exception:
            # pluggy leaves a plugin half registered: begin again without it.
            self._site = None
            for sound, known_name in self._sound:
                self._pluggy().register(sound, known_name)
            raise
        self._sound.append((plugin, name))
        self._origins[name] = origin

    def plugins(self) -> list[Plugin]:
        """List the active plugins, built-ins first."""
        return [Plugin(name, origin, tuple(sorted(self._hooks_of(name)))) for name, origin in self._origins.items()]

    def implementations(self, hook_name: str) -> list[Implementation]:
        """List what a hook calls, in the order of the calls."""
        builtin = [
            Implementation(name, function, function.__code__.co_varnames[: function.__code__.co_argcount])
            for name, module in self._builtin.items()
            for function in [getattr(module, hook_name, None)]
            if function is not None
        ]
        if self._site is None:
            return builtin
        site = [
            Implementation(impl.plugin_name, impl.function, tuple(impl.argnames))
            for impl in reversed(getattr(self._site.hook, hook_name).get_hookimpls())
        ]
        return site + builtin if hook_name in FIRST_ANSWER_WINS else builtin + site

    def call_each(self, hook_name: str, **arguments: Any) -> list[Any]:
        """Call every plugin's implementation of a hook; give the answers that are not None, in the order of the calls.

        An implementation that raises or outlasts its time is reported and skipped; what it wrote into a `JobEnv` by
        then is taken back, since half an environment is worse than none.
        """
        return list(self._answers(hook_name, arguments))

    def call_first(self, hook_name: str, **arguments: Any) -> Any:
        """Call implementations of a hook until one answers; give that answer, or None.

        Raises:
            SlurmFsxError: an implementation raised it and no other answered: it is what the user should read.
        """
        refusals: list[SlurmFsxError] = []
        for answer in self._answers(hook_name, arguments, refusals):
            return answer
        if refusals:
            raise refusals[-1]
        return None

    def _answers(
        self, hook_name: str, arguments: dict[str, Any], refusals: list[SlurmFsxError] | None = None
    ) -> Iterator[Any]:
        env = arguments.get("env")
        for implementation in self.implementations(hook_name):
            before = env.state() if env is not None else ()
            try:
                with Limit(self._timeout_s, f"plugin {implementation.plugin}"):
                    answer = implementation.function(**{name: arguments[name] for name in implementation.arguments})
            except (Exception, SystemExit) as error:
                if env is not None:
                    env.restore(before)
                if (
                    refusals is not None
                    and isinstance(error, SlurmFsxError)
                    and not isinstance(error, DeadlineExceeded)
                ):
                    refusals.append(error)
                else:
                    self._on_failure(f"{implementation.plugin}: {hook_name}", error)
            else:
                if answer is not None:
                    yield answer

    def _hooks_of(self, name: str) -> list[str]:
        if name in self._builtin:
            return [hook for hook in vars(self._builtin[name]) if hook.startswith(HOOK_PREFIX)]
        manager = self._pluggy()
        return [hook.name for hook in manager.get_hookcallers(manager.get_plugin(name)) or ()]

    def _pluggy(self) -> pluggy.PluginManager:
        """Give pluggy's manager of the site's plugins, made when the first one comes."""
        if self._site is None:
            import pluggy

            from . import hookspecs

            self._site = pluggy.PluginManager(hookspecs.PROJECT)
            self._site.add_hookspecs(hookspecs)
        return self._site

    def _load(self, name: str, origin: str, add: Callable[[str, str], None], what: str) -> None:
        try:
            with Limit(self._timeout_s, f"loading {what}"):
                add(name, what)
        except (Exception, SystemExit) as error:
            self._on_failure(f"loading plugin {name} ({origin})", error)

    def _add_builtin(self, name: str, module: str) -> None:
        self._builtin[name] = _import(module)
        self._origins[name] = "built-in"

    def _add_module(self, name: str, module: str) -> None:
        self.register(_import_trusted(module), name, module)

    def _add_file(self, name: str, path: str) -> None:
        self.register(_execute(path), name, path)


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
    module = type(sys)("slurm_fsx_plugins_d." + os.path.basename(path)[: -len(".py")])
    module.__file__ = path
    exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102  # root's own file, checked on the descriptor
    return module
