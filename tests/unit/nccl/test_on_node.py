"""What a node is given besides jobs' environment, on real files."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_fsx_tools.config.model import Config
from slurm_fsx_tools.nccl.on_node import Applied, apply_here
from slurm_fsx_tools.shared_fs import SharedFs


def apply(folder: Path, checkout: Path) -> Applied:
    config = Config({"fsx.root": str(folder / "fsx"), "runtime_dir": str(folder / "run")})
    (folder / "run").mkdir()
    return apply_here(config, SharedFs(str(folder / "fsx"), 10), str(checkout / "share"), str(folder / "etc"))


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        pytest.param(["setup-nccl-env.sh"], "", id="another tool's"),
        pytest.param(["setup-nccl-env.sh", "versions"], "there is no", id="ours, none chosen"),
        pytest.param([], "there is no", id="nothing"),
    ],
)
def test_an_nccl_that_another_tool_installed_is_as_good(
    tmp_path: Path, checkout: Path, made: list[str], problem: str
) -> None:
    nccl = tmp_path / "fsx/nccl"
    nccl.mkdir(parents=True)
    for name in made:
        (nccl / name).touch() if "." in name else (nccl / name).mkdir()
    done = apply(tmp_path, checkout)
    assert done.put == [f"{tmp_path}/etc/profile.d/nccl-shared.sh"]
    assert [problem in text for text in done.problems] == [True] * bool(problem)
    assert problem or done.message.endswith("NCCL as another tool installed it")
