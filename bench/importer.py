"""The Pyxis importer: many that want one image at once, and what an answer from the catalogue costs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lab.cluster import CHECKOUT, HOME, Cluster
from lab.registry import Image, Layer, Registry, configuration, count_asked

from .figures import Figure
from .node import FLOOR, medians

if TYPE_CHECKING:
    from pathlib import Path

CROWD = 64
IMAGE_BYTES = 96 << 20
"""Large enough for the others to have started before it is there."""

REGISTRY = "10.0.0.254:5000"
IMPORTER = f"{HOME}/libexec/slurm-fsx-importer"
CATALOGUED = "nvcr.io_nvidia_pytorch-24.03-py3"
SUPERBLOCK = b"hsqs" + bytes(24) + b"\4\0" + bytes(10) + b"\x60" + bytes(55)
OLD_S = 1_700_000_000
UID = 2001

ASK = f"""
mkdir crowd && cd crowd || exit 1
for number in $(seq {CROWD}); do
	( {IMPORTER} get docker://{REGISTRY}/team/tool:1 >$number.path 2>$number.talk; date +%s.%N >$number.end ) &
done
wait
"""


def measure(folder: Path) -> list[Figure]:
    """Measure on a node of a private cluster, with a registry on its head node."""
    with Cluster.start(folder, nodes=1, installation=CHECKOUT / ".venv") as cluster:
        fill(cluster)
        log = cluster.head.log / "registry.out"
        pulls_before = count_asked(log.read_text(), "GET", "blobs") if log.exists() else 0
        lateness_s = ask_at_once(cluster)
        # A pull takes the image's layer, and its configuration.
        pulls = (count_asked(log.read_text(), "GET", "blobs") - pulls_before) / 2
        answer = medians(cluster, {"importer": [IMPORTER, "get", "docker://pytorch"], "floor": FLOOR})
    return [
        Figure.absolute(f"pulls of one image that {CROWD} importers want", pulls, "", 1),
        Figure.absolute("the last of them done after the first", lateness_s, "s", 1),
        Figure.against_floor("importer, answer from the catalogue", answer["importer"], answer["floor"], "ms", 4),
    ]


def fill(cluster: Cluster) -> None:
    """Put an image into the catalogue, and another one into a registry; make the user's cache."""
    image = cluster.fsx / "containers" / f"{CATALOGUED}.sqsh"
    caches = cluster.fsx / "containers/.slurm-fsx/caches"
    for path, mode in ((image.parent, 0o755), (caches.parent, 0o755), (caches, 0o711), (caches / str(UID), 0o700)):
        path.mkdir(exist_ok=True)
        path.chmod(mode)
    os.chown(caches / str(UID), UID, UID)
    image.write_bytes(SUPERBLOCK)
    os.utime(image.parent, (OLD_S, OLD_S))
    cluster.write_on_all("/etc/slurm-fsx/config.yaml", f"containers: {{http_registries: ['{REGISTRY}']}}\n")
    done = cluster.run_on("n1", [f"{HOME}/bin/slurm-fsx", "containers", "index"])
    if done.returncode != 0:
        raise SystemExit(f"the index cannot be written: {done.stderr}")
    (cluster.fsx / "registry").mkdir()
    with Registry(cluster.fsx / "registry") as source:
        source.push("team/tool:1", Image([Layer({"payload": os.urandom(IMAGE_BYTES)})]))
    cluster.head.write("/etc/docker-registry.yml", configuration("/fsx/registry/data", REGISTRY))
    cluster.head.start_daemon("registry", ["docker-registry", "serve", "/etc/docker-registry.yml"])
    address = f"http://{REGISTRY}/v2/"
    ask = ["/usr/bin/python3", "-c", f"import urllib.request; urllib.request.urlopen({address!r})"]
    cluster.wait_until(lambda: cluster.run_on("n1", ask).returncode == 0, "the registry")


def ask_at_once(cluster: Cluster) -> float:
    """Have many processes ask for one image; give how long after the first one the last one was done, in seconds."""
    done = cluster.run_on("n1", ["/bin/sh", "-c", ASK], "ada", timeout_s=300)
    folder = cluster.home("ada") / "crowd"
    paths = {path.read_text() for path in folder.glob("*.path")}
    if done.returncode != 0 or len(paths) != 1 or not next(iter(paths)).startswith("/fsx/containers/.slurm-fsx/"):
        talk = [path.read_text() for path in sorted(folder.glob("*.talk"))]
        raise SystemExit(f"the importers did not agree on one image: {sorted(paths)}\n{done.stderr}{talk[0]}")
    ends = [float(path.read_text()) for path in folder.glob("*.end")]
    return max(ends) - min(ends)
