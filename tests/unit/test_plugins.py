from __future__ import annotations

import inspect
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pluggy
import pytest

from slurm_fsx_tools import hookimpl, hookspecs
from slurm_fsx_tools.errors import ImageNotFound, SlurmFsxError
from slurm_fsx_tools.jobenv import JobEnv, Operation
from slurm_fsx_tools.plugins import BUILTIN_PLUGINS, FIRST_ANSWER_WINS, HOOK_PREFIX, PluginSet

Failures = list[tuple[str, BaseException]]
HOOKS = sorted(name for name in vars(hookspecs) if name.startswith(HOOK_PREFIX))


@pytest.fixture
def failures() -> Failures:
    return []


@pytest.fixture
def plugins(failures: Failures) -> PluginSet:
    """An empty set: without the built-in plugins."""
    return PluginSet(0.2, lambda what, error: failures.append((what, error)))


def env_plugin(function: Callable[..., object]) -> object:
    return SimpleNamespace(slurm_fsx_job_env=hookimpl(function))


def resolver(function: Callable[..., object]) -> object:
    return SimpleNamespace(slurm_fsx_resolve_container=hookimpl(function))


def call_job_env(plugins: PluginSet) -> JobEnv:
    env = JobEnv()
    plugins.call_each("slurm_fsx_job_env", job=None, env=env, config=None, shared_fs=None)
    return env


def resolve(plugins: PluginSet) -> object:
    return plugins.call_first("slurm_fsx_resolve_container", name="pytorch", partition="", config=None)


def test_the_first_answer_wins_and_the_rest_is_not_asked(plugins: PluginSet) -> None:
    asked = []

    def later(name: str) -> None:
        asked.append(name)

    plugins.register(resolver(later), "registered-first")
    plugins.register(resolver(lambda name: f"/fsx/{name}.sqsh"), "registered-last")
    assert resolve(plugins) == "/fsx/pytorch.sqsh"
    assert asked == []


def test_a_broken_plugin_is_named_and_the_others_still_answer(plugins: PluginSet, failures: Failures) -> None:
    def broken(env: JobEnv) -> None:
        env.set("HALF", "written")
        raise RuntimeError("broken")

    plugins.register(env_plugin(broken), "broken")
    plugins.register(env_plugin(lambda env: env.set("A", "1")), "sound")
    assert list(call_job_env(plugins)) == [Operation("set", "A", "1")]
    assert [(what, str(error)) for what, error in failures] == [("broken: slurm_fsx_job_env", "broken")]


@pytest.mark.parametrize(
    "hang",
    [
        pytest.param(lambda: time.sleep(30), id="sleeps"),
        pytest.param(lambda: all(iter(int, 1)) or [None for _ in iter(int, 1)], id="computes"),
        pytest.param(lambda: sys.exit(3), id="exits"),
    ],
)
def test_a_plugin_that_does_not_come_back_is_named_and_skipped(
    plugins: PluginSet, failures: Failures, hang: Callable[[], object]
) -> None:
    plugins.register(env_plugin(lambda env: hang()), "stuck")
    plugins.register(env_plugin(lambda env: env.set("A", "1")), "sound")
    assert list(call_job_env(plugins)) == [Operation("set", "A", "1")]
    assert [what for what, _ in failures] == ["stuck: slurm_fsx_job_env"]


def test_a_refusal_is_raised_only_if_nobody_answers(plugins: PluginSet, failures: Failures) -> None:
    def refuse(name: str) -> str:
        raise ImageNotFound(f"no {name}")

    plugins.register(resolver(refuse), "refusing")
    with pytest.raises(ImageNotFound, match="no pytorch"):
        resolve(plugins)
    plugins.register(
        SimpleNamespace(slurm_fsx_resolve_container=hookimpl(trylast=True)(lambda: "/x.sqsh")), "answering"
    )
    assert resolve(plugins) == "/x.sqsh"
    assert failures == []


def test_where_a_site_and_a_built_in_write_the_same_the_site_wins(
    plugins: PluginSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    builtin = ModuleType("builtin_example")
    exec(
        "def slurm_fsx_job_env(env): env.set('A', 'built-in')\n"
        "def slurm_fsx_resolve_container(name): return '/built-in.sqsh'\n",
        builtin.__dict__,
    )
    monkeypatch.setitem(sys.modules, "builtin_example", builtin)
    monkeypatch.setitem(BUILTIN_PLUGINS, "example", "builtin_example")
    plugins.load_builtin(blocked=set(BUILTIN_PLUGINS) - {"example"})
    site = SimpleNamespace(
        # The worst order a site can ask for must not matter.
        slurm_fsx_job_env=hookimpl(tryfirst=True)(lambda env: env.set("A", "site")),
        slurm_fsx_resolve_container=hookimpl(trylast=True)(lambda name: "/site.sqsh"),
    )
    assert resolve(plugins) == "/built-in.sqsh"
    plugins.register(site, "site")
    assert [operation.value for operation in call_job_env(plugins)] == ["built-in", "site"]
    assert resolve(plugins) == "/site.sqsh"


def test_a_blocked_built_in_stays_off(plugins: PluginSet) -> None:
    plugins.load_builtin(blocked=["monitoring"])
    assert [plugin.name for plugin in plugins.plugins()] == [name for name in BUILTIN_PLUGINS if name != "monitoring"]


def write_plugin(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text("from slurm_fsx_tools import hookimpl\n" + text)
    return path


GOOD = "@hookimpl\ndef slurm_fsx_job_env(env):\n    env.set('FROM', __file__)\n"


def test_single_files_are_loaded_in_the_order_of_their_names(plugins: PluginSet, tmp_path: Path) -> None:
    for name in ("b", "a", ".hidden"):
        write_plugin(tmp_path, name, GOOD)
    (tmp_path / "README").touch()
    plugins.load_folder(str(tmp_path))
    assert [plugin.name for plugin in plugins.plugins()] == ["a", "b"]
    # pluggy asks the last one first; who writes last has the last word, so the first file has it.
    assert len(call_job_env(plugins)) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("def slurm_fsx_job_env(:", "invalid syntax", id="no-python"),
        pytest.param("import a_module_that_is_not_there", "No module named", id="import-fails"),
        pytest.param("while True: pass", "took longer", id="never-ends"),
        pytest.param("@hookimpl\ndef slurm_fsx_job_enw(env): ...", "unknown hook", id="hook-misspelt"),
        pytest.param("@hookimpl\ndef slurm_fsx_job_env(environment): ...", "environment", id="argument-misspelt"),
        pytest.param("@hookimpl(wrapper=True)\ndef slurm_fsx_job_env(env): yield", "is a wrapper", id="wrapper"),
        pytest.param("raise SystemExit(1)", "1", id="exits"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_named_and_the_others_are(
    plugins: PluginSet, failures: Failures, tmp_path: Path, text: str, reason: str
) -> None:
    write_plugin(tmp_path, "a_bad", text)
    write_plugin(tmp_path, "good", GOOD)
    plugins.load_folder(str(tmp_path))
    [(what, error)] = failures
    assert "a_bad" in what
    assert reason in str(error)
    assert [operation.value for operation in call_job_env(plugins)] == [str(tmp_path / "good.py")]


def test_a_module_name_of_the_standard_library_shadows_nothing(plugins: PluginSet, tmp_path: Path) -> None:
    write_plugin(tmp_path, "json", GOOD)
    plugins.load_folder(str(tmp_path))
    assert str(tmp_path) not in sys.path
    assert "slurm_fsx" not in (sys.modules["json"].__file__ or "")


def _by_group(path: Path) -> None:
    path.chmod(0o664)


def _by_another_user(path: Path) -> None:
    os.chown(path, 4321, -1)


def _through_a_link(path: Path) -> None:
    path.rename(path.parent / "elsewhere")
    path.symlink_to("elsewhere")


def _through_its_folder(path: Path) -> None:
    path.parent.chmod(0o777)


@pytest.mark.usefixtures("needs_root")
@pytest.mark.parametrize("expose", [_by_group, _by_another_user, _through_a_link, _through_its_folder])
def test_a_file_that_others_could_have_written_is_not_run(
    plugins: PluginSet, failures: Failures, tmp_path: Path, expose: Callable[[Path], None]
) -> None:
    folder = tmp_path / "plugins.d"
    folder.mkdir()
    expose(write_plugin(folder, "exposed", f"open({str(tmp_path / 'ran')!r}, 'w')"))
    plugins.load_folder(str(folder))
    assert not (tmp_path / "ran").exists()
    assert len(failures) == 1


@pytest.mark.usefixtures("needs_root")
def test_an_entry_point_is_loaded_only_from_a_file_that_root_alone_can_write(
    plugins: PluginSet, failures: Failures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    package = site / "site_policy"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    path = write_plugin(package, "plugin", GOOD)
    monkeypatch.syspath_prepend(str(site))
    path.chmod(0o666)
    plugins.load_entry_points([("policy", "site_policy.plugin")])
    assert [str(error) for _, error in failures] == [
        f"{path} can be written by others than its owner; run: chmod go-w {path}"
    ]
    path.chmod(0o644)
    plugins.load_entry_points([("policy", "site_policy.plugin"), ("gone", "a_module_that_is_not_there")])
    assert [plugin.name for plugin in plugins.plugins()] == ["policy"]
    assert "a_module_that_is_not_there" in str(failures[-1][1])


def test_a_second_plugin_of_one_name_is_refused(plugins: PluginSet) -> None:
    plugins.register(env_plugin(lambda env: None), "one")
    with pytest.raises(SlurmFsxError, match="two plugins named one"):
        plugins.register(env_plugin(lambda env: None), "one")


@pytest.mark.parametrize("name", BUILTIN_PLUGINS)
def test_a_built_in_keeps_to_the_hooks_as_pluggy_checks_them(name: str) -> None:
    class Manager(pluggy.PluginManager):
        def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
            return hookimpl(lambda: None).slurm_fsx_impl if name.startswith(HOOK_PREFIX) else None  # type: ignore[attr-defined]

    __import__(BUILTIN_PLUGINS[name])
    manager = Manager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(sys.modules[BUILTIN_PLUGINS[name]], name)
    manager.check_pending()
    assert manager.get_hookcallers(sys.modules[BUILTIN_PLUGINS[name]])


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_says_when_it_runs_what_it_takes_and_what_it_returns(hook: str) -> None:
    function = getattr(hookspecs, hook)
    text = inspect.getdoc(function) or ""
    assert re.search("Runs (in the (prolog|epilog)|at submission|after)", text)
    assert "Returns:" in text
    for name in inspect.signature(function).parameters:
        assert f"\n    {name}: " in text
    assert bool(function.slurm_fsx_spec["firstresult"]) == (hook in FIRST_ANSWER_WINS)
