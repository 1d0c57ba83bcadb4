"""The examples of ``docs/plugins.md``, as files in a folder of site plugins."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from slurm_fsx_tools import hookspecs
from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.health import Health
from slurm_fsx_tools.job import Job, Node
from slurm_fsx_tools.jobenv import JobEnv, apply_operations
from slurm_fsx_tools.monitoring.exporters import Exporter
from slurm_fsx_tools.plugins import HOOK_PREFIX, PluginSet
from slurm_fsx_tools.shared_fs import SharedFs

HOOKS = sorted(name for name in vars(hookspecs) if name.startswith(HOOK_PREFIX))
PAGE = (Path(__file__).parents[3] / "docs/plugins.md").read_text()
SECTIONS = dict(re.findall(r"^##+ (.+)\n((?:.*\n)*?)(?=^##+ |\Z)", PAGE, re.MULTILINE))
JOB = Job(id="4711", uid=12345, user="anna", partition="beta", node=Node("storage-1"))

Call = Callable[..., list[Any]]
"""Calls the hook of an example, as a prolog does."""


def example(section: str) -> str:
    blocks = re.findall(r"^```python\n(.*?)^```", SECTIONS[section], re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, section
    return blocks[0]


def a_name_means_the_partitions_own_image(call: Call, folder: Path) -> None:
    image = folder / "containers-beta/pytorch.sqsh"
    image.parent.mkdir()
    image.touch()
    assert call(name="pytorch", partition="beta") == [str(image)]
    assert call(name="pytorch", partition="") == []
    assert call(name="../containers-beta/pytorch", partition="beta") == []


def production_jobs_log_warnings_only(call: Call, folder: Path) -> None:
    env = JobEnv()
    call(job=JOB._replace(partition="production"), env=env)
    assert apply_operations(env, {"PATH": "/bin"}) == {"NCCL_DEBUG": "WARN", "PATH": "/opt/site/bin:/bin"}
    assert apply_operations(env, {"NCCL_DEBUG": "INFO"})["NCCL_DEBUG"] == "INFO"


def storage_nodes_have_one_more_exporter(call: Call, folder: Path) -> None:
    assert call(node=Node("storage-1")) == [[Exporter("lustre_exporter", 9169)]]
    assert call(node=Node("gpu-1")) == []


def a_job_gets_a_folder_of_its_own(call: Call, folder: Path) -> None:
    for _ in ("started", "requeued"):
        call(job=JOB, env=JobEnv(), exporters=[])
    made = (folder / "4711").stat()
    assert (made.st_uid, made.st_mode & 0o7777) == (12345, 0o700)


def the_jobs_folder_goes(call: Call, folder: Path) -> None:
    others = folder / "others"
    others.mkdir()
    (others / "file").touch()
    (folder / "4711").mkdir()
    (folder / "4711/link").symlink_to(others)
    for _ in ("once", "again"):
        call(job=JOB)
    assert [path.name for path in folder.iterdir()] == ["others"]
    assert (others / "file").exists()


def each_failure_is_a_line(call: Call, folder: Path) -> None:
    call(act="prolog", job=JOB)
    call(act="epilog", job=JOB)
    lines = (folder / "log").read_text().splitlines()
    assert [line.split()[1:] for line in lines] == [["storage-1", "prolog", "4711"], ["storage-1", "epilog", "4711"]]


def a_listed_node_is_drained(call: Call, folder: Path) -> None:
    assert call(job=JOB) == [Health.ok()]
    (folder / "config").mkdir()
    (folder / "config/bad-nodes").write_text("gpu-7 storage-1\n")
    assert [health.verdict for health in call(job=JOB)] == ["drain"]
    assert call(job=JOB._replace(node=Node("gpu-1"))) == [Health.ok()]


TRIES = {
    "slurm_fsx_resolve_container": a_name_means_the_partitions_own_image,
    "slurm_fsx_job_env": production_jobs_log_warnings_only,
    "slurm_fsx_exporters": storage_nodes_have_one_more_exporter,
    "slurm_fsx_prolog": a_job_gets_a_folder_of_its_own,
    "slurm_fsx_epilog": the_jobs_folder_goes,
    "slurm_fsx_failed_open": each_failure_is_a_line,
    "slurm_fsx_node_health": a_listed_node_is_drained,
}


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.usefixtures("needs_root")
def test_every_hook_has_an_example_that_does_what_it_says(hook: str, tmp_path: Path) -> None:
    plugins_d, folder = tmp_path / "plugins.d", tmp_path / "fsx"
    plugins_d.mkdir(mode=0o755)
    folder.mkdir()
    source = (
        example(hook)
        .replace('"/scratch"', repr(str(folder)))
        .replace('"/var/log/slurm-fsx-failures"', repr(str(folder / "log")))
    )
    (plugins_d / "site.py").write_text(source)
    failures: list[tuple[str, BaseException]] = []
    plugins = PluginSet(3.0, lambda what, error: failures.append((what, error)))
    plugins.load_folder(str(plugins_d))
    assert [plugin.hooks for plugin in plugins.plugins()] == [(hook,)], failures
    config = Config({"fsx.root": str(folder)})

    def call(**arguments: Any) -> list[Any]:
        return plugins.call_each(hook, config=config, shared_fs=SharedFs(str(folder), 10.0), **arguments)

    TRIES[hook](call, folder)
    assert failures == []


def test_the_test_that_authors_are_shown_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = ModuleType("site_policy")
    exec(example("slurm_fsx_job_env"), plugin.__dict__)
    monkeypatch.setitem(sys.modules, "site_policy", plugin)
    shown: dict[str, Any] = {}
    exec(example("Test yours"), shown)
    shown["test_production_jobs_log_warnings_only"]()


def test_every_argument_of_a_hook_is_in_the_table() -> None:
    arguments = {name for hook in HOOKS for name in getattr(hookspecs, hook).__code__.co_varnames}
    table = "".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `"))
    assert arguments == set(re.findall(r"`(\w+)`", table))
