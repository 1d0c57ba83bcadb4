from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from slurm_fsx_tools.config.model import DEFAULTS, SETTINGS, Config
from slurm_fsx_tools.config.source import check_config, compile_config, load_config
from slurm_fsx_tools.errors import ConfigError, UntrustedFile


def test_no_file_gives_the_defaults(tmp_path: Path) -> None:
    config = load_config(str(tmp_path / "config.yaml"))
    assert config.as_dict() == DEFAULTS


def test_what_show_prints_can_be_used_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "fsx: {root: /lustre}\ncontainers:\n  aliases: {'a:b': x, torch: nvcr.io/nvidia/pytorch:24.03-py3}\n"
    )
    shown = subprocess.run(
        [sys.executable, "-m", "slurm_fsx_tools", "config", "show"],
        env={"SLURM_FSX_CONFIG": str(path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for setting in SETTINGS:
        assert setting.help in shown
    path.write_text(shown)
    assert load_config(str(path))["fsx.root"] == "/lustre"
    assert set(check_config(shown, "shown")) == set(DEFAULTS)
    assert yaml.safe_load(shown)["containers"]["aliases"] == {"a:b": "x", "torch": "nvcr.io/nvidia/pytorch:24.03-py3"}


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        pytest.param("fsx:\n  timeuot: 1", ["c:2: unknown key fsx.timeuot; did you mean fsx.timeout?"], id="misspelt"),
        pytest.param("timeout: 1", ["c:1: unknown key timeout; did you mean fsx.timeout?"], id="wrong-section"),
        pytest.param("qqq: 1", ["c:1: unknown key qqq; see: slurm-fsx config show"], id="unlike-any"),
        pytest.param(
            "nccl:\n  enabled: maybe\n  in_container: sometimes\nfsx:\n  root: fsx\n  timeout: -1",
            [
                "c:2: nccl.enabled must be true or false, not 'maybe'",
                "c:3: nccl.in_container must be one of auto, always, never, not 'sometimes'",
                "c:5: fsx.root must be an absolute path without .., not 'fsx'",
                "c:6: fsx.timeout must be a number of seconds above 0, up to 3600, not '-1'",
            ],
            id="wrong-values-all-at-once",
        ),
        pytest.param(
            "fsx: {root: /a/../b}", ["c:1: fsx.root must be an absolute path without .., not '/a/../b'"], id="dots"
        ),
        pytest.param("fsx: {timeout: nan}", ["not 'nan'"], id="not-a-number"),
        pytest.param("fsx: {timeout: }", ["not nothing"], id="empty-value"),
        pytest.param(
            "containers: {prefer: nvcr.io}",
            ["containers.prefer must be a list, as [a, b], not 'nvcr.io'"],
            id="no-list",
        ),
        pytest.param(
            "containers: {prefer: [1.0]}",
            ["must be text (in quotes if it looks like a number), not '1.0'"],
            id="no-text",
        ),
        pytest.param("containers: {aliases: [a]}", ["must be NAME: VALUE pairs, not a list"], id="no-map"),
        pytest.param(
            "monitoring: {node_exporter_port: 70000}", ["must be a port from 1 to 65535, not '70000'"], id="no-port"
        ),
        pytest.param("fsx: 1", ["c:1: fsx is a section"], id="no-section"),
        pytest.param("- fsx", ["c:1: the file is a section"], id="no-mapping"),
        pytest.param(
            "nccl:\n  profile: fats\n  profiles:\n    fast: {NCCL_DEBUG: WARN}",
            ["c:2: nccl.profile must be one of documented, auto, minimal, fast, not 'fats'"],
            id="no-profile",
        ),
        pytest.param(
            "nccl:\n  profiles:\n    fast:\n      NCCL_BUFFSIZE: 8388608\n      A-B: x\n      A: x\n      A: y\n"
            "    auto: {}\n    a b: {}\n    slow: 1\n    fast: {}\n    list: {B: [x]}",
            [
                "c:4: nccl.profiles.fast.NCCL_BUFFSIZE must be text (in quotes if it looks like a number), not ",
                "c:5: nccl.profiles.fast has 'A-B', which is no name of a variable",
                "c:7: nccl.profiles.fast.A is there twice: remove one",
                "c:8: nccl.profiles.auto is built in; choose another name",
                "c:9: nccl.profiles has a profile called 'a b'; write letters, digits",
                "c:10: nccl.profiles.slow must be VARIABLE: VALUE pairs, not '1'",
                "c:11: nccl.profiles.fast is there twice: remove one",
                "c:12: nccl.profiles.list.B must be text",
            ],
            id="profiles-with-mistakes",
        ),
        pytest.param(
            'nccl: {profiles: {a: {B: "x\\ny"}}}', ["c:1: nccl.profiles.a.B must be one line"], id="two-lines"
        ),
        pytest.param("nccl: {profiles: [a]}", ["c:1: nccl.profiles must be NAME: {VARIABLE: VALUE}"], id="no-profiles"),
        pytest.param("nccl: {instance_type: p5}", ["c:1: nccl.instance_type must be an EC2"], id="no-instance-type"),
        pytest.param("fsx: {root: /a, root: /b}", ["c:1: fsx.root is there twice"], id="twice"),
        pytest.param("fsx: [1", ["c:2: this is no YAML"], id="no-yaml"),
        pytest.param("a: b: c", ["c:1: this is no YAML"], id="no-yaml-either"),
        pytest.param("a: \0", ["c: this is no YAML"], id="NUL"),
        pytest.param("fsx: !!python/object/apply:os.system ['true']", ["c:1: fsx is a section"], id="no-code"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_key(text: str, mistakes: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        check_config(text, "c")
    lines = caught.value.message.splitlines()
    assert len(lines) == len(mistakes) or "no YAML" in lines[0]
    for line, mistake in zip(lines, mistakes):
        assert mistake in line


def test_a_sites_profile_can_be_chosen_before_it_is_defined() -> None:
    text = 'nccl: {profile: fast, instance_type: p6-b200.48xlarge, profiles: {fast: {NCCL_BUFFSIZE: "8388608"}}}'
    assert check_config(text, "c") == {
        "nccl.profile": "fast",
        "nccl.instance_type": "p6-b200.48xlarge",
        "nccl.profiles": {"fast": {"NCCL_BUFFSIZE": "8388608"}},
    }


@pytest.mark.parametrize("text", ["", "# nothing\n", "fsx:\n", "---\n"])
def test_an_empty_file_or_section_is_fine(text: str) -> None:
    assert check_config(text, "c") == {}


def test_a_file_that_others_can_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("")
    path.chmod(0o666)
    with pytest.raises(UntrustedFile, match="chmod go-w"):
        load_config(str(path))


def test_the_policy_changes_with_the_meaning_of_names_and_with_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    plugins = tmp_path / "plugins.d"

    def policy(text: str) -> str:
        path.write_text(f"prolog: {{plugins_dir: {plugins}}}\n{text}")
        return compile_config(str(path)).config.policy

    assert policy("fsx: {timeout: 1}\ncontainers: {prefer: [nvcr.io/nvidia], aliases: {}}") == "default"
    assert policy("containers: {aliases: {a: b}}") != "default"
    assert policy("containers: {aliases: {a: b}}") == policy("nccl: {enabled: false}\ncontainers: {aliases: {a: b}}")
    assert policy("containers: {aliases: {a: b}}") != policy("containers: {aliases: {a: c}}")
    plugins.mkdir()
    assert policy("") == "default"
    # It may have its say in names, and an index that was made without it must not be believed.
    (plugins / "resolver.py").touch()
    assert policy("") != "default"


def test_a_key_that_no_setting_has_is_a_mistake_of_the_program() -> None:
    with pytest.raises(KeyError):
        Config({"fsx.rot": "/"})
    with pytest.raises(KeyError):
        Config()["fsx.rot"]
