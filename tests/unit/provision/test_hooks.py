"""Prolog and epilog go where the cluster keeps its own, and slurm.conf is edited only when that is asked for."""

from __future__ import annotations

import pytest

from slurm_fsx_tools.provision.hooks import Refused, empty_patterns, hook_steps, warnings
from slurm_fsx_tools.provision.installation import Installation
from slurm_fsx_tools.provision.slurm_conf import find_slurm_conf, read_slurm_conf
from slurm_fsx_tools.provision.steps import Outcome, Record

from .conftest import Machine


def set_up(machine: Machine, installation: Installation, *, edit: bool = False) -> Outcome:
    before = Record.read("test", str(machine.root)).entries.values()
    return machine.apply(hook_steps(machine.conf, installation.share, edit=edit, before=list(before)))


def test_on_parallelcluster_they_run_after_its_own_health_check(
    parallelcluster: Machine, installation: Installation
) -> None:
    before = parallelcluster.tree()
    outcome = set_up(parallelcluster, installation)
    assert [event.outcome for event in outcome] == ["changed", "changed"]
    for name in ("prolog", "epilog"):
        folder = parallelcluster.path(f"/opt/slurm/etc/scripts/{name}.d")
        # Slurm runs them in reverse alphabetical order.
        assert sorted((path.name for path in folder.iterdir()), reverse=True)[1] == "50-slurm-fsx"
        assert (folder / "50-slurm-fsx").stat().st_mode & 0o777 == 0o755
    assert not set_up(parallelcluster, installation).events
    parallelcluster.undo()
    assert parallelcluster.tree() == before


def test_without_a_setting_the_lines_that_are_lacking_are_said_and_nothing_is_edited(
    debian: Machine, installation: Installation
) -> None:
    conf = debian.read("/etc/slurm/slurm.conf")
    outcome = set_up(debian, installation)
    (event,) = outcome.of("skipped")
    said = [line.strip() for line in event.text.splitlines()[1:]]
    assert said[:3] == ["Prolog=/etc/slurm/prolog.d/*", "Epilog=/etc/slurm/epilog.d/*", "PrologFlags=Alloc"]
    assert debian.read("/etc/slurm/slurm.conf") == conf
    assert debian.path("/etc/slurm/prolog.d/50-slurm-fsx").exists()


def test_the_lines_are_written_before_the_nodes_when_asked_for_and_stay_without(
    debian: Machine, installation: Installation
) -> None:
    before = debian.tree()
    set_up(debian, installation, edit=True)
    assert debian.read("/etc/slurm/slurm.conf").splitlines() == [
        "ClusterName=debian",
        "SlurmctldHost=head",
        "Prolog=/etc/slurm/prolog.d/*",
        "Epilog=/etc/slurm/epilog.d/*",
        "PrologFlags=Alloc",
        "NodeName=n[1-2]",
        "PartitionName=all Nodes=ALL",
    ]
    assert debian.read("/etc/slurm/slurm.conf.slurm-fsx-backup-1").startswith(
        "ClusterName=debian\nSlurmctldHost=head\nNode"
    )
    assert not debian.path("/etc/slurm/slurm.conf.slurm-fsx-backup-2").exists()
    assert not set_up(debian, installation).events
    assert not set_up(debian, installation, edit=True).events
    debian.undo()
    assert debian.tree() == before


def test_a_script_that_slurm_conf_names_alone_goes_on_to_run(debian: Machine, installation: Installation) -> None:
    debian.write("/etc/slurm/slurm.conf", "Prolog=/usr/local/sbin/check\nPrologFlags=X11,Contain\nNodeName=n1\n")
    before = debian.tree()
    assert "link to /usr/local/sbin/check" in set_up(debian, installation).of("skipped")[0].text
    set_up(debian, installation, edit=True)
    assert debian.read("/etc/slurm/slurm.conf").splitlines()[:2] == [
        "Prolog=/etc/slurm/prolog.d/*",
        "PrologFlags=X11,Contain",
    ]
    assert debian.path("/etc/slurm/prolog.d/90-site-check").readlink().as_posix() == "/usr/local/sbin/check"
    assert not set_up(debian, installation).events
    debian.undo()
    assert debian.tree() == before


def test_flags_that_are_set_are_kept_beside_ours(debian: Machine, installation: Installation) -> None:
    debian.write("/etc/slurm/slurm.conf", "prologflags=Serial # slow disks\nNodeName=n1\n")
    set_up(debian, installation, edit=True)
    assert "PrologFlags=Alloc,Serial\n" in debian.read("/etc/slurm/slurm.conf")


def test_a_pattern_that_wants_another_ending_gets_it(debian: Machine, installation: Installation) -> None:
    debian.write("/etc/slurm/slurm.conf", "Prolog=/srv/prolog/*.sh\nEpilog=/srv/epilog/*\nPrologFlags=Alloc\n")
    debian.path("/srv/prolog").mkdir(parents=True)
    debian.path("/srv/epilog").mkdir()
    set_up(debian, installation)
    assert debian.path("/srv/prolog/50-slurm-fsx.sh").exists()
    assert debian.path("/srv/epilog/50-slurm-fsx").exists()


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        pytest.param("/srv/prolog/site-*", "site-50-slurm-fsx", id="beginning"),
        pytest.param("/srv/prolog/*-prolog.sh", "50-slurm-fsx-prolog.sh", id="ending"),
        pytest.param("/srv/prolog/[0-9]*.sh", "50-slurm-fsx.sh", id="class"),
    ],
)
def test_a_pattern_that_not_every_name_fits_gets_one_that_does(
    debian: Machine, installation: Installation, pattern: str, name: str
) -> None:
    debian.write("/etc/slurm/slurm.conf", f"Prolog={pattern}\nEpilog=/srv/epilog/*\nPrologFlags=Alloc\n")
    debian.path("/srv/prolog").mkdir(parents=True)
    debian.path("/srv/epilog").mkdir()
    assert not set_up(debian, installation).of("skipped")
    assert [path.name for path in debian.path("/srv/prolog").iterdir()] == [name]


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param("Prolog=/etc/slurm/*/prolog", id="a folder by pattern"),
        pytest.param("Prolog=/usr/local/a\nProlog=/usr/local/b", id="several: newer releases run all of them"),
        pytest.param("Prolog=prolog.sh", id="one that slurmctld hands out"),
    ],
)
def test_scripts_that_no_single_folder_stands_for_are_left_alone(
    debian: Machine, installation: Installation, setting: str
) -> None:
    debian.write("/etc/slurm/slurm.conf", f"{setting}\nPrologFlags=Alloc\nNodeName=n1\n")
    before = debian.tree()
    with pytest.raises(Refused, match="no single folder stands for"):
        set_up(debian, installation, edit=True)
    assert debian.tree() == before
    assert "Prolog=/etc/slurm/prolog.d/*" in set_up(debian, installation).of("skipped")[0].text


def test_a_backup_is_no_prolog_whatever_the_folder_is_called(debian: Machine, installation: Installation) -> None:
    debian.write("/etc/slurm/slurm.conf", "Prolog=/srv/scripts/prologs/*\nPrologFlags=Alloc\n")
    older = "#!/bin/sh\n# Slurm prolog of slurm-fsx-tools: an older one\n"
    debian.write("/srv/scripts/prologs/50-slurm-fsx", older)
    set_up(debian, installation)
    assert [path.name for path in debian.path("/srv/scripts/prologs").iterdir()] == ["50-slurm-fsx"]
    assert debian.read("/srv/scripts/50-slurm-fsx.slurm-fsx-backup-1") == older


def test_a_folder_with_a_space_is_named_in_quotes(debian: Machine, installation: Installation) -> None:
    text = debian.read("/etc/slurm/slurm.conf")
    debian.write("/etc/my slurm/slurm.conf", text)
    conf = read_slurm_conf("/etc/my slurm/slurm.conf", str(debian.root))
    (event,) = debian.apply(hook_steps(conf, installation.share, edit=False)).of("skipped")
    assert 'Prolog="/etc/my slurm/prolog.d/*"' in event.text


@pytest.mark.parametrize(
    ("setting", "made", "said"),
    [
        pytest.param("Prolog=/srv/p/*\nEpilog=/srv/e/*\nPrologFlags=Alloc", "/srv/p", "", id="by pattern"),
        pytest.param("PrologFlags=Alloc", "/etc/slurm/prolog.d", "on the head node: slurm-fsx setup hooks", id="none"),
        pytest.param("Prolog=p.sh\nEpilog=e.sh\nPrologFlags=Alloc", "", "on the head node", id="handed out"),
    ],
)
def test_a_node_that_has_slurm_conf_from_slurmctld_gets_the_scripts_that_slurmctld_does_not_hand_out(
    debian: Machine, installation: Installation, setting: str, made: str, said: str
) -> None:
    debian.path("/etc/slurm/slurm.conf").unlink()
    debian.write("/run/slurm/conf/slurm.conf", f"ClusterName=c\n{setting}\n")
    debian.path("/srv").mkdir()
    conf = read_slurm_conf(find_slurm_conf(str(debian.root), copies=True), str(debian.root))
    before = debian.tree()
    outcome = debian.apply(hook_steps(conf, installation.share, edit=False))
    assert said in "".join(event.text for event in outcome.of("skipped"))
    assert not made or debian.path(f"{made}/50-slurm-fsx").exists()
    assert made or debian.tree() == before


def test_a_line_that_cannot_be_replaced_whole_is_refused(debian: Machine, installation: Installation) -> None:
    debian.write("/etc/slurm/slurm.conf", "SlurmdPort=1 Prolog=/x\nNodeName=n1\n")
    with pytest.raises(Refused, match="cannot be replaced whole"):
        set_up(debian, installation, edit=True)


def test_a_prolog_that_was_installed_by_hand_is_taken_over(
    parallelcluster: Machine, installation: Installation
) -> None:
    path = "/opt/slurm/etc/scripts/prolog.d/50-slurm-fsx"
    parallelcluster.write(path, "#!/bin/sh\n# Slurm prolog of slurm-fsx-tools: an older one\n")
    set_up(parallelcluster, installation)
    assert "older one" not in parallelcluster.read(path)


def test_a_task_prolog_beside_pyxis_is_warned_of(parallelcluster: Machine) -> None:
    assert warnings(parallelcluster.conf) == []
    conf = parallelcluster.read("/opt/slurm/etc/slurm.conf")
    parallelcluster.write("/opt/slurm/etc/slurm.conf", f"{conf}TaskProlog=/fsx/task\n")
    (warning,) = warnings(parallelcluster.conf)
    assert "TaskProlog=/fsx/task" in warning


def test_a_pattern_that_names_no_file_is_found(parallelcluster: Machine) -> None:
    assert empty_patterns(parallelcluster.conf) == []
    parallelcluster.path("/opt/slurm/etc/scripts/prolog.d/90_pcluster_health_check_manager").unlink()
    assert empty_patterns(parallelcluster.conf) == ["/opt/slurm/etc/scripts/prolog.d/*"]
