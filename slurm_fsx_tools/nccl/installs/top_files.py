"""The documented files in ``/fsx/nccl`` itself, which stay where they are whatever version is current."""

from __future__ import annotations

import os
import sys
from shlex import quote
from typing import TYPE_CHECKING

from ...files import move, point, write_atomically
from ...job import ID_VARIABLE
from ..manifest import CURRENT, VERSIONS
from ..survey import SETUP_SCRIPT, VERSION_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..manifest import Manifest

SHARED_SCRIPTS = ("install-nccl-shared.sh", "apply-nccl-to-running-nodes.sh")
LINKS = ("lib", "include", "bin")
OFI_LINK = "ofi"
"""In a version's folder: leads to a plugin that is not in it."""

KEPT = ".before-slurm-fsx"
_MARK = "# slurm-fsx nccl 1"

_SCRIPT = """\
{mark}: written by `slurm-fsx nccl use`; what is changed here is lost.
# For sh and bash, as often as one likes: source {shown}
# It follows {root}/current as that is now; what you have set yourself stays.
_slurm_fsx_nccl=$(CDPATH='' cd -P -- {root}/current 2>/dev/null && pwd -P) || _slurm_fsx_nccl=
# A job keeps the version that it started with, whatever `current` is by now.
case ${{{job_id}:+:${{LD_LIBRARY_PATH-}}}} in
*:{versions}/*)
	_slurm_fsx_entry=${{LD_LIBRARY_PATH#*{versions}/}}
	_slurm_fsx_nccl={versions}/${{_slurm_fsx_entry%%/*}}
	;;
esac
if [ -n "$_slurm_fsx_nccl" ] && [ -d "$_slurm_fsx_nccl/lib" ]; then
	_slurm_fsx_ofi=$(CDPATH='' cd -P -- "$_slurm_fsx_nccl/ofi" 2>/dev/null && pwd -P) || _slurm_fsx_ofi=
	# Other versions go out, in case that `current` was another one before.
	_slurm_fsx_path=$_slurm_fsx_nccl/lib${{_slurm_fsx_ofi:+:$_slurm_fsx_ofi}}
	_slurm_fsx_rest=${{LD_LIBRARY_PATH-}}:
	while [ -n "$_slurm_fsx_rest" ]; do
		_slurm_fsx_entry=${{_slurm_fsx_rest%%:*}}
		_slurm_fsx_rest=${{_slurm_fsx_rest#*:}}
		case $_slurm_fsx_entry in
		'' | {versions}/* | "$_slurm_fsx_ofi") ;;
		*) _slurm_fsx_path=$_slurm_fsx_path:$_slurm_fsx_entry ;;
		esac
	done
	export LD_LIBRARY_PATH="$_slurm_fsx_path"
	_slurm_fsx_path=$_slurm_fsx_nccl/bin
	_slurm_fsx_rest=${{PATH-}}:
	while [ -n "$_slurm_fsx_rest" ]; do
		_slurm_fsx_entry=${{_slurm_fsx_rest%%:*}}
		_slurm_fsx_rest=${{_slurm_fsx_rest#*:}}
		case $_slurm_fsx_entry in
		'' | {versions}/*) ;;
		*) _slurm_fsx_path=$_slurm_fsx_path:$_slurm_fsx_entry ;;
		esac
	done
	export PATH="$_slurm_fsx_path"
	export NCCL_HOME="$_slurm_fsx_nccl"
	if IFS= read -r _slurm_fsx_entry 2>/dev/null <"$_slurm_fsx_nccl/.nccl_version"; then
		export NCCL_VERSION="$_slurm_fsx_entry"
	fi
{variables}\
fi
unset _slurm_fsx_nccl _slurm_fsx_ofi _slurm_fsx_path _slurm_fsx_rest _slurm_fsx_entry
"""


def setup_script(root: str, variables: Mapping[str, str]) -> str:
    """Give the text of setup-nccl-env.sh, for sh and bash.

    Args:
        root: ``/fsx/nccl``.
        variables: What else it sets where the user has not.
    """
    lines = [f'\t[ -n "${{{name}+set}}" ] || export {name}={quote(value)}\n' for name, value in variables.items()]
    return _SCRIPT.format(
        mark=_MARK,
        job_id=ID_VARIABLE,
        shown=f"{root}/{SETUP_SCRIPT}",
        root=quote(root),
        versions=quote(f"{os.path.realpath(root)}/{VERSIONS}"),
        variables="".join(lines),
    )


def write_top_files(root: str, manifest: Manifest, variables: Mapping[str, str]) -> list[str]:
    """Write the documented files, for a version that is current now; give what an admin should know.

    A setup script that somebody else has written is kept under another name, once.

    Raises:
        OSError: one cannot be written.
    """
    said = []
    script = f"{root}/{SETUP_SCRIPT}"
    if os.path.lexists(script) and not _is_ours(script):
        move(script, script + KEPT)
        said.append(f"{script} was somebody else's: it is {script}{KEPT} now")
    write_atomically(script, setup_script(root, variables).encode())
    write_atomically(f"{root}/{VERSION_FILE}", f"v{manifest.nccl}\n".encode())
    for name in SHARED_SCRIPTS:
        try:
            with open(f"{sys.prefix}/share/slurm-fsx/scripts/{name}", "rb") as file:
                data = file.read()
        except FileNotFoundError:
            continue  # a checkout that was never installed
        write_atomically(f"{root}/{name}", data, 0o755)
    for name in LINKS:
        path = f"{root}/{name}"
        if os.path.islink(path) or not os.path.lexists(path):
            point(path, f"{CURRENT}/{name}")
        else:
            said.append(f"{path} is from an installation before: it stays, and programs that name it get that one")
    return said


def _is_ours(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(_MARK)) == _MARK.encode()
    except OSError:
        return False
