"""The configuration's YAML: every mistake in it is named with file, line and key."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import yaml

from ..errors import ConfigError
from ..files import read_trusted
from ..jobenv import is_variable_name
from .model import SETTINGS, Config, Setting, Snapshot, is_instance_type, is_profile_name
from .origin import config_key, plugin_folders

if TYPE_CHECKING:
    from collections.abc import Callable

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BY_KEY = {setting.key: setting for setting in SETTINGS}
_SECTIONS = {setting.key.rpartition(".")[0] for setting in SETTINGS} - {""}
_ENTRY_POINT_GROUP = "slurm_fsx"


def load_config(path: str) -> Config:
    """Read a configuration file; a missing one gives the defaults.

    Raises:
        ConfigError: it is no YAML, or has unknown keys or values of a wrong type; all of them are named.
        UntrustedFile: others than root could have written it.
        OSError: it cannot be read.
    """
    try:
        text = read_trusted(path).decode()
    except FileNotFoundError:
        return Config(path=path)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is no UTF-8", hint="save the file as UTF-8") from error
    return Config(check_config(text, path), path=path)


def check_config(text: str, path: str) -> dict[str, Any]:
    """Give the values of a configuration's text, by dotted key.

    Raises:
        ConfigError: something in it cannot be used; every mistake has a line of its own.
    """
    try:
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{path}:{line}: this is no YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: this is no YAML: {error}") from error
    reader = _Reader(path)
    if root is not None and not _is_null(root):
        reader.read(root, "")
        reader.check_profile()
    if reader.mistakes:
        raise ConfigError("\n".join(reader.mistakes))
    return reader.values


def compile_config(path: str) -> Snapshot:
    """Read a configuration file, and find the plugins that installed distributions offer.

    Raises:
        ConfigError, UntrustedFile, OSError: as for `load_config`.
    """
    key = config_key(path)  # before reading: an edit in between makes the snapshot stale, never wrong
    config = load_config(path)
    found = entry_points()
    # Python 3.9 gives a plain dict here, later ones an object with select.
    group = found.select(group=_ENTRY_POINT_GROUP) if hasattr(found, "select") else found.get(_ENTRY_POINT_GROUP, ())
    points = tuple(sorted({(point.name, point.value) for point in group}))
    plugins_dir = config["prolog.plugins_dir"]
    folders = plugin_folders(plugins_dir)
    policy = _policy(config, [*(name for name, _ in points), *_plugin_files(plugins_dir)])
    return Snapshot(Config(config.as_dict(), path=path, policy=policy), points, key, folders)


def _plugin_files(plugins_dir: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(plugins_dir) if name.endswith(".py"))
    except OSError:
        return []


def _policy(config: Config, plugins: list[str]) -> str:
    """Give a word that changes whenever the meaning of a container's name may: with aliases, or with plugins."""
    keys = ("containers.aliases", "containers.prefer", "prolog.block")
    meaning = {key: config[key] for key in keys if config[key] != _BY_KEY[key].default}
    if not meaning and not plugins:
        return "default"
    return hashlib.sha256(json.dumps([meaning, plugins], sort_keys=True).encode()).hexdigest()[:16]


_MOST = 1000
_MOST_DAYS = 36500
_SIZE_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


class _MistakeInside(ValueError):
    """Mistakes in parts of a value, each with the part and its key below the setting's, e.g. ``.quiet.NCCL_DEBUG``."""

    def __init__(self, mistakes: list[tuple[yaml.Node, str, str]]) -> None:
        super().__init__()
        self.mistakes = mistakes


class _Reader:
    """Walks a YAML tree, and collects values and mistakes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.values: dict[str, Any] = {}
        self.mistakes: list[str] = []
        self._profile: yaml.Node | None = None

    def read(self, node: yaml.Node, prefix: str) -> None:
        if not isinstance(node, yaml.MappingNode):
            self._mistake(node, f"{prefix or 'the file'} is a section: write its keys indented below it")
            return
        for key_node, value_node in node.value:
            key = f"{prefix}.{key_node.value}" if prefix else str(key_node.value)
            if key in self.values:
                self._mistake(key_node, f"{key} is there twice: remove one")
            elif key in _BY_KEY:
                self._take(_BY_KEY[key], value_node)
            elif key in _SECTIONS:
                if not _is_null(value_node):
                    self.read(value_node, key)
            else:
                self._mistake(key_node, f"unknown key {key}{_nearest(key)}")

    def check_profile(self) -> None:
        """See that the profile that is chosen is there, wherever in the file it is defined."""
        setting = _BY_KEY["nccl.profile"]
        known = [*setting.choices, *self.values.get("nccl.profiles", {})]
        name = self.values.get(setting.key, setting.default)
        if self._profile is not None and name not in known and not self._mistakes_in("nccl.profiles"):
            self._mistake(self._profile, f"{setting.key} must be one of {', '.join(known)}, not {name!r}")

    def _mistakes_in(self, key: str) -> bool:
        return any(f": {key}" in mistake for mistake in self.mistakes)

    def _take(self, setting: Setting, node: yaml.Node) -> None:
        if setting.kind == "profile":
            self._profile = node
        try:
            self.values[setting.key] = _READERS[setting.kind](setting, node)
        except _MistakeInside as error:
            for part, below, text in error.mistakes:
                self._mistake(part, f"{setting.key}{below} {text}")
        except ValueError as error:
            self._mistake(node, f"{setting.key} {error}")

    def _mistake(self, node: yaml.Node, text: str) -> None:
        self.mistakes.append(f"{self._path}:{node.start_mark.line + 1}: {text}")


def _nearest(key: str) -> str:
    near = difflib.get_close_matches(key, [*_BY_KEY, *_SECTIONS], n=1, cutoff=0.5)
    if not near:
        # A right word in the wrong section is the usual slip.
        near = [known for known in _BY_KEY if known.rpartition(".")[2] == key.rpartition(".")[2]][:1]
    return f"; did you mean {near[0]}?" if near else "; see: slurm-fsx config show"


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _scalar(node: yaml.Node, tag: str, wanted: str) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag != f"tag:yaml.org,2002:{tag}":
        raise ValueError(f"must be {wanted}, not {_shown(node)}")
    return str(node.value)


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value) if node.value else "nothing"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a section"


def _number(node: yaml.Node) -> float:
    try:
        return float(node.value) if isinstance(node, yaml.ScalarNode) else -1.0
    except ValueError:
        return -1.0


def _read_str(setting: Setting, node: yaml.Node) -> str:
    value = _scalar(node, "str", "text (in quotes if it looks like a number)")
    if "\n" in value or "\0" in value:
        raise ValueError("must be one line of text")
    return value


def _read_path(setting: Setting, node: yaml.Node) -> str:
    value = _read_str(setting, node)
    if not value.startswith("/") or "/../" in f"{value}/":
        raise ValueError(f"must be an absolute path without .., not {value!r}")
    return value.rstrip("/") or "/"


def _read_optional_path(setting: Setting, node: yaml.Node) -> str:
    return _read_path(setting, node) if _read_str(setting, node) else ""


def _read_seconds(setting: Setting, node: yaml.Node) -> float:
    value = _number(node)
    if not 0 < value <= 3600:
        raise ValueError(f"must be a number of seconds above 0, up to 3600, not {_shown(node)}")
    return value


def _read_days(setting: Setting, node: yaml.Node) -> float:
    value = _number(node)
    if not 0 <= value <= _MOST_DAYS:
        raise ValueError(f"must be a number of days from 0 to {_MOST_DAYS}, not {_shown(node)}")
    return value


def _read_count(setting: Setting, node: yaml.Node) -> int:
    digits = node.value if isinstance(node, yaml.ScalarNode) else ""
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits) <= _MOST):
        raise ValueError(f"must be a whole number from 1 to {_MOST}, not {_shown(node)}")
    return int(digits)


def _read_size(setting: Setting, node: yaml.Node) -> int:
    text = node.value if isinstance(node, yaml.ScalarNode) else ""
    digits = text.rstrip("KMGTiB ")
    unit = text[len(digits) :].strip().removesuffix("iB")
    if not (digits.isascii() and digits.isdigit() and unit in _SIZE_UNITS):
        raise ValueError(f"must be a number of bytes, or like 500 GiB, not {_shown(node)}")
    return int(digits) << _SIZE_UNITS[unit]


def _read_port(setting: Setting, node: yaml.Node) -> int:
    digits = node.value if isinstance(node, yaml.ScalarNode) else ""
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits) < 1 << 16):
        raise ValueError(f"must be a port from 1 to 65535, not {_shown(node)}")
    return int(digits)


def _read_bool(setting: Setting, node: yaml.Node) -> bool:
    return _scalar(node, "bool", "true or false").lower() in ("true", "yes", "on")


def _read_choice(setting: Setting, node: yaml.Node) -> str:
    value = node.value if isinstance(node, yaml.ScalarNode) else ""
    if value not in setting.choices:
        raise ValueError(f"must be one of {', '.join(setting.choices)}, not {_shown(node)}")
    return str(value)


def _read_list(setting: Setting, node: yaml.Node) -> list[str]:
    if not isinstance(node, yaml.SequenceNode):
        raise ValueError(f"must be a list, as [a, b], not {_shown(node)}")
    return [_read_str(setting, item) for item in node.value]


def _read_map(setting: Setting, node: yaml.Node) -> dict[str, str]:
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"must be NAME: VALUE pairs, not {_shown(node)}")
    return {_read_str(setting, key): _read_str(setting, value) for key, value in node.value}


def _read_instance_type(setting: Setting, node: yaml.Node) -> str:
    value = _read_str(setting, node)
    if value and not is_instance_type(value):
        raise ValueError(f"must be an EC2 instance type, as p5.48xlarge, not {value!r}")
    return value


def _read_profiles(setting: Setting, node: yaml.Node) -> dict[str, dict[str, str]]:
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"must be NAME: {{VARIABLE: VALUE}} pairs, not {_shown(node)}")
    profiles: dict[str, dict[str, str]] = {}
    mistakes: list[tuple[yaml.Node, str, str]] = []
    for name_node, variables_node in node.value:
        name = str(name_node.value)
        if not is_profile_name(name):
            rule = "letters, digits, . _ and -, at most 64, beginning with a letter or digit"
            mistakes.append((name_node, "", f"has a profile called {name!r}; write {rule}"))
        elif name in setting.choices:
            mistakes.append((name_node, f".{name}", "is built in; choose another name"))
        elif name in profiles:
            mistakes.append((name_node, f".{name}", "is there twice: remove one"))
        elif not isinstance(variables_node, yaml.MappingNode):
            what = f"must be VARIABLE: VALUE pairs, not {_shown(variables_node)}"
            mistakes.append((variables_node, f".{name}", what))
        else:
            profiles[name] = _read_variables(setting, variables_node, f".{name}", mistakes)
    if mistakes:
        raise _MistakeInside(mistakes)
    return profiles


def _read_variables(
    setting: Setting, node: yaml.MappingNode, below: str, mistakes: list[tuple[yaml.Node, str, str]]
) -> dict[str, str]:
    variables: dict[str, str] = {}
    for name_node, value_node in node.value:
        name = str(name_node.value)
        if not is_variable_name(name):
            mistakes.append((name_node, below, f"has {name!r}, which is no name of a variable"))
        elif name in variables:
            mistakes.append((name_node, f"{below}.{name}", "is there twice: remove one"))
        else:
            try:
                variables[name] = _read_str(setting, value_node)
            except ValueError as error:
                mistakes.append((value_node, f"{below}.{name}", str(error)))
    return variables


_READERS: dict[str, Callable[[Setting, yaml.Node], Any]] = {
    "str": _read_str,
    "path": _read_path,
    "optional path": _read_optional_path,
    "seconds": _read_seconds,
    "days": _read_days,
    "count": _read_count,
    "size": _read_size,
    "port": _read_port,
    "bool": _read_bool,
    "choice": _read_choice,
    "list": _read_list,
    "map": _read_map,
    "instance type": _read_instance_type,
    "profile": _read_str,
    "profiles": _read_profiles,
}
