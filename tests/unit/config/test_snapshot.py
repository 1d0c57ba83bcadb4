from __future__ import annotations

import os
from pathlib import Path

import pytest

from slurm_fsx_tools.config.origin import config_key
from slurm_fsx_tools.config.snapshot import is_current, load_snapshot
from slurm_fsx_tools.errors import ConfigError


@pytest.fixture
def yaml_path(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(f"runtime_dir: {tmp_path}/run\nfsx: {{root: /lustre}}\n")
    return path


def load(path: Path) -> str:
    return str(load_snapshot(str(path), str(path.parent / "run")).config["fsx.root"])


def test_the_second_process_reads_no_yaml(yaml_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(yaml_path)
    monkeypatch.setattr("slurm_fsx_tools.config.source.compile_config", None)
    assert load(yaml_path) == "/lustre"


def test_an_edit_is_never_overlooked(yaml_path: Path) -> None:
    assert load(yaml_path) == "/lustre"
    status = yaml_path.stat()
    replacement = yaml_path.with_name("new")
    replacement.write_text(yaml_path.read_text().replace("lustre", "weka__"))
    os.utime(replacement, ns=(status.st_atime_ns, status.st_mtime_ns))
    replacement.rename(yaml_path)
    # Same size, same time: the inode tells.
    assert load(yaml_path) == "/weka__"
    stored = load_snapshot(str(yaml_path), str(yaml_path.parent / "run"))
    assert is_current(stored, str(yaml_path))
    yaml_path.unlink()
    assert not is_current(stored, str(yaml_path))


def test_a_new_distribution_is_never_overlooked(
    yaml_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def entry_points() -> tuple[tuple[str, str], ...]:
        return load_snapshot(str(yaml_path), str(tmp_path / "run")).entry_points

    before = entry_points()
    info = site / "policy-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: policy\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[slurm_fsx]\npolicy = site_policy.plugin\n")
    assert entry_points() == (*before, ("policy", "site_policy.plugin"))


def test_a_new_plugin_file_is_never_overlooked(yaml_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plugins.d"
    yaml_path.write_text(f"{yaml_path.read_text()}prolog: {{plugins_dir: {folder}}}\n")
    stored = load_snapshot(str(yaml_path), str(tmp_path / "run"))
    assert is_current(stored, str(yaml_path))
    folder.mkdir()
    (folder / "policy.py").touch()
    assert not is_current(stored, str(yaml_path))
    assert load_snapshot(str(yaml_path), str(tmp_path / "run")).config.policy != stored.config.policy


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"version": 2}', b"\xff", b'{"version": 1, "values": 3}'])
def test_a_snapshot_that_cannot_be_read_is_made_again(yaml_path: Path, content: bytes) -> None:
    load(yaml_path)
    (yaml_path.parent / "run/config.json").write_bytes(content)
    assert load(yaml_path) == "/lustre"


def test_a_snapshot_that_others_could_have_written_is_not_believed(yaml_path: Path) -> None:
    load(yaml_path)
    stored = yaml_path.parent / "run/config.json"
    stored.write_text(stored.read_text().replace("lustre", "malory"))
    stored.chmod(0o666)
    assert load(yaml_path) == "/lustre"


def test_a_mistake_is_raised_where_nobody_takes_the_report(yaml_path: Path) -> None:
    yaml_path.write_text("fxs: 1")
    with pytest.raises(ConfigError, match="unknown key fxs"):
        load(yaml_path)


def test_the_spank_plugin_reads_the_same_values(yaml_path: Path) -> None:
    load(yaml_path)
    assert (yaml_path.parent / "run/plugin.conf").read_text() == (
        f"# slurm-fsx plugin 1\nconfig={yaml_path}\nconfig_key={config_key(str(yaml_path))}\nfsx_root=/lustre\n"
        "containers=/lustre/containers\nindex=/lustre/containers/.slurm-fsx/index\nunknown_name=pass\n"
        "prepare=mount\nstate_dir=/var/lib/slurm-fsx/containers\nstage=\n"
        "nccl_profiles=documented auto minimal\npolicy=default\n"
    )
