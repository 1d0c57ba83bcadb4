"""The rules that keep the parts apart, checked on the source: type imports count too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import slurm_fsx_tools

PACKAGE = Path(slurm_fsx_tools.__file__).parent
MODULES = sorted(
    path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".") for path in PACKAGE.rglob("*.py")
)
FEATURES = ("containers", "nccl", "monitoring")

# What the prolog may not import.
HEAVY = {
    *(
        "click",
        "rich",
        "yaml",
        "psutil",
        "pyslurm",
        "ClusterShell",
        "pluggy",
        "http",
        "urllib",
        "subprocess",
        "logging",
    ),
    *("pathlib", "dataclasses", "importlib.metadata", "inspect", "argparse", "difflib", "hashlib"),
    # Each takes about a millisecond, and values.py, json_text.py and signals.py stand for what is needed of them.
    *("typing", "json", "signal", "re", "enum", "collections", "functools", "contextlib"),
}
HOT_ENTRIES = (
    *("slurm_fsx_tools.node.prolog", "slurm_fsx_tools.node.epilog"),
    *(f"slurm_fsx_tools.{feature}.plugin" for feature in FEATURES),
    # Imported inside functions, by most jobs.
    "slurm_fsx_tools.counters",
    *(
        f"slurm_fsx_tools.monitoring.on_node.{name}"
        for name in ("registration", "gpus", "gpu_mapping", "health_metrics")
    ),
)


def source(module: str) -> str:
    path = PACKAGE / module.replace(".", "/")
    return (path.with_suffix(".py")).read_text()


def imports(module: str) -> Iterator[str]:
    """Name the package's own modules that a module imports, wherever the statement stands."""
    inside = module.split(".")[:-1]
    for node in ast.walk(ast.parse(source(module))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = inside[: len(inside) - node.level + 1]
            target = [*base, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                named = ".".join([*target, alias.name])
                yield named if named in MODULES or f"{named}.__init__" in MODULES else ".".join(target)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("slurm_fsx_tools"):
            yield (node.module or "")[len("slurm_fsx_tools.") :]


@pytest.mark.parametrize("module", [module for module in MODULES if module.split(".")[0] in FEATURES])
def test_features_do_not_know_each_other(module: str) -> None:
    others = set(FEATURES) - {module.split(".")[0]}
    assert not {name for name in imports(module) if name.split(".")[0] in others}


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("node.")])
def test_the_prolog_knows_no_feature(module: str) -> None:
    assert not {name for name in imports(module) if name.split(".")[0] in FEATURES}


@pytest.mark.parametrize("module", MODULES)
def test_only_cli_and_provision_sit_on_top(module: str) -> None:
    if module.split(".")[0] not in ("cli", "provision", "__main__"):
        top = {name for name in imports(module) if name.split(".")[0] in ("cli", "provision")}
        assert not top
        clients = {name for name in imports(module) if name.split(".")[0] == "slurm"}
        assert not clients or module.split(".")[0] == "slurm"
        assert "config.source" not in set(imports(module)) or module == "config.snapshot"


@pytest.mark.parametrize("module", MODULES)
def test_names_of_slurms_job_variables_stand_in_one_file(module: str) -> None:
    if module != "job":
        strings = [node.value for node in ast.walk(ast.parse(source(module))) if isinstance(node, ast.Constant)]
        assert not [text for text in strings if isinstance(text, str) and "SLURM_JOB_" in text]


@pytest.mark.parametrize("module", MODULES)
def test_files_are_replaced_in_one_place(module: str) -> None:
    if module != "files":
        calls = [node for node in ast.walk(ast.parse(source(module))) if isinstance(node, ast.Attribute)]
        assert not [node.lineno for node in calls if ast.unparse(node) in ("os.rename", "os.replace")]


@pytest.mark.parametrize("module", MODULES)
def test_everything_is_caught_in_few_places(module: str) -> None:
    handlers = [node for node in ast.walk(ast.parse(source(module))) if isinstance(node, ast.ExceptHandler)]
    broad = [
        node.lineno
        for node in handlers
        if node.type is None or {"Exception", "BaseException"} & set(ast.unparse(node.type).strip("()").split(", "))
    ]
    reraised = [node.lineno for node in handlers if node.body and isinstance(node.body[-1], ast.Raise)]
    assert module in ("plugins", "node.run", "shared_fs") or not set(broad) - set(reraised)


def test_modules_do_not_import_in_circles() -> None:
    graph = {
        module: {name for name in imports(module) if name != module} for module in MODULES if module != "hookspecs"
    }
    del graph["__init__"]
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done and module in graph:
            for name in sorted(graph[module]):
                visit(name, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_the_hot_path_imports_nothing_heavy() -> None:
    code = f"import sys, {', '.join(HOT_ENTRIES)}; print(*sys.modules)"
    site = next(path for path in sys.path if path.endswith("site-packages"))
    loaded = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {[str(PACKAGE.parent), site]!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {name for name in loaded if name in HEAVY or name.split(".")[0] in HEAVY}


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(ast.parse(source(module)))
