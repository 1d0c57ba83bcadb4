"""Brings one part's sources into a folder, and says what came."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ...errors import InstallFailed
from ...programs import ProgramFailed
from .sources import FOLDER, GIT, INDEX, TARBALL
from .unpacking import copy_folder, unpack_tarball, unpack_wheel

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...programs import Programs
    from .sources import Part

SAID_TAGS = 5


def find_tag(part: Part, git: str, programs: Programs) -> str:
    """Give the tag or branch that a repository has for a version.

    Raises:
        InstallFailed: it has none, or does not answer.
    """
    found: dict[str, str] = {}

    def note(line: str) -> None:
        _, _, name = line.replace("\t", " ").partition(" ")
        for kind in ("refs/tags/", "refs/heads/"):
            if name.startswith(kind):
                found[name[len(kind) :].removesuffix("^{}")] = kind

    try:
        programs.run([git, "ls-remote", "--tags", "--heads", "--", part.source.place], cwd="/", on_line=note)
    except ProgramFailed as error:
        raise InstallFailed(error.message, hint="see whether this machine reaches it, and may read it") from error
    for tag in part.tags:
        if tag in found:
            return tag
    from difflib import get_close_matches

    near = get_close_matches(part.tags[0], found, SAID_TAGS, 0.3) or list(found)[-SAID_TAGS:]
    hint = f"it has {', '.join(near)}" if near else "it has no tags at all"
    raise InstallFailed(f"{part.source.place} has no tag {part.tags[0]}", hint=hint)


def fetch(
    part: Part, folder: str, *, git: str, python: str, programs: Programs, say: Callable[[str], None]
) -> dict[str, str]:
    """Bring a part's sources, or for a wheel the library itself.

    Args:
        part: What to bring.
        folder: Made here; it must not be there.
        git: The program.
        python: The interpreter whose pip downloads wheels.
        programs: How programs are run.
        say: Gets what is to be read about it.

    Returns:
        The manifest's entry: ``from``, ``version``, and ``commit`` or ``sha256``.

    Raises:
        InstallFailed, ProgramFailed, NoSpace: it did not come, or is not what it should be.
        OSError: a file cannot be read or written.
    """
    source = part.source
    record = {"from": source.place, "version": part.version}
    if source.kind == GIT:
        tag = find_tag(part, git, programs)
        say(f"cloning {tag} of {source.place}")
        url = f"file://{source.place}" if source.place.startswith("/") else source.place  # a path ignores --depth
        programs.run(
            [
                *(git, "-c", "advice.detachedHead=false", "clone", "--depth=1", f"--branch={tag}", "--single-branch"),
                *("--recurse-submodules", "--shallow-submodules", "--", url, folder),
            ],
            cwd="/",
            on_line=say,
        )
        commits: list[str] = []
        programs.run([git, "-C", folder, "rev-parse", "HEAD"], cwd="/", on_line=commits.append)
        return {**record, "tag": tag, "commit": commits[0]}
    if source.kind == FOLDER:
        say(f"copying {source.place}")
        return {**record, "sha256": copy_folder(source.place, folder)}
    if source.kind == TARBALL:
        say(f"unpacking {source.place}")
        return {**record, "sha256": unpack_tarball(source.place, folder, source.sha256)}
    path = _download(part, folder + ".download", python, programs, say) if source.kind == INDEX else source.place
    say(f"unpacking {path}")
    return {**record, "file": os.path.basename(path), "sha256": unpack_wheel(path, folder, source.sha256)}


def _download(part: Part, folder: str, python: str, programs: Programs, say: Callable[[str], None]) -> str:
    """Have pip download NVIDIA's wheel; give its path."""
    os.makedirs(folder, exist_ok=True)
    package = f"{part.source.place}=={part.version.partition('-')[0]}"
    say(f"downloading {package}")
    programs.run(
        [
            *(python, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"),
            *("--disable-pip-version-check", "--progress-bar=off", f"--dest={folder}", package),
        ],
        cwd="/",
        on_line=say,
    )
    wheels = [name for name in os.listdir(folder) if name.endswith(".whl")]
    if len(wheels) != 1:
        raise InstallFailed(f"pip left {len(wheels)} wheels of {package}", hint="give the file: --nccl-source FILE.whl")
    return f"{folder}/{wheels[0]}"
