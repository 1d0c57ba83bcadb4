"""Small real images: a squashfs with busybox, and what else a test puts in."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
BASH = Path("/bin/bash-static")
APPLETS = "sh cat env ls echo sleep true false id grep sort hostname mount pwd touch stat printf test mkdir dd head tr"
FOLDERS = "bin dev etc fsx home lib mnt opt proc root run sys tmp usr/bin usr/lib usr/local/lib var/tmp"


def make_image(
    path: Path,
    environment: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    special: Sequence[str] = (),
    tree: Path | None = None,
    copies: Mapping[str, Path] | None = None,
) -> Path:
    """Write an image whose ``/etc/environment`` holds the given variables, as enroot makes it of an image's own.

    Args:
        path: The ``.sqsh`` to write; it appears whole.
        environment: The image's variables; PATH is there anyway.
        files: Further files by path in the image.
        special: Files that nobody may make here, such as devices, as mksquashfs's ``-p`` takes them.
        tree: A folder that is moved into the image, as ``/data``.
        copies: Files of the host by their path in the image, which they replace.
    """
    with tempfile.TemporaryDirectory(prefix="lab-image-") as scratch:
        root = Path(scratch, "root")
        for folder in FOLDERS.split():
            (root / folder).mkdir(parents=True)
        shutil.copy(BUSYBOX, root / "bin/busybox")
        shutil.copy(BASH, root / "bin/bash")
        for applet in APPLETS.split():
            (root / "bin" / applet).symlink_to("busybox")
        variables = {"PATH": "/usr/local/bin:/usr/bin:/bin", **(environment or {})}
        contents = {
            "etc/environment": "".join(f"{name}={value}\n" for name, value in variables.items()),
            "etc/passwd": "root:x:0:0::/root:/bin/sh\n",
            "etc/group": "root:x:0:\n",
            "etc/os-release": f'ID=lab\nPRETTY_NAME="{path.stem}"\n',
            **(files or {}),
        }
        for name, text in contents.items():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        for name, source in (copies or {}).items():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copy(source, target)
        # enroot runs this file in the container, with the command as arguments.
        (root / "etc/rc").write_text('exec "$@"\n')
        (root / "etc/rc").chmod(0o755)
        (root / "tmp").chmod(0o1777)
        whole = Path(scratch, "image")
        if tree is not None:
            shutil.move(tree, root / "data")
        command = [
            "mksquashfs",
            str(root),
            str(whole),
            "-noappend",
            "-quiet",
            "-no-progress",
            "-all-root",
            "-noD",
            "-noF",
        ]
        for file in special:
            command += ["-p", file]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.new")
        shutil.copy(whole, staged)
        staged.chmod(0o644)
        staged.rename(path)
    return path
