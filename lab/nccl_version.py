"""A small NCCL version on the shared file system: a library that tells its version, a plugin, and a test program.

The library and the programs are real ones, compiled here; what the test program prints is made up, for GPUs that are
not there.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from slurm_fsx_tools.nccl.manifest import Manifest

VERSION = "2.28.7-1_ofi-1.17.2-aws_cuda-13.0_x86_64"
CODE = 22807

_LIBRARY = "int ncclGetVersion(int *version) { *version = %d; return 0; }\n"
_PLUGIN = 'const char ncclNetPlugin_v10[] = "aws-ofi-nccl 1.17.2"; int *plugin_uses(void) { return 0; }\n'
_PROGRAM = """\
#include <stdio.h>
#include <unistd.h>

int ncclGetVersion(int *version);

int main(int argc, char **argv)
{
	char script[4096];
	int version;

	(void)argc;
	ncclGetVersion(&version);
	snprintf(script, sizeof script, "%s.sh", argv[0]);
	argv[0] = script;
	execv(script, argv);
	return 1;
}
"""
_SCRIPT = """\
#!/bin/sh
# all_reduce_perf of GPUs that are not there; the file SPEED beside it holds the bus bandwidth of 128 MiB in MB/s.
[ "$*" = "-b 8 -e 128M -f 2 -g 1" ] || exit 2
[ "$SLURM_PROCID" = 0 ] || exit 0
if [ -z "$CUDA_VISIBLE_DEVICES" ]; then
	echo "$(hostname):1:1 [0] init.cc:1 NCCL WARN cuda: no CUDA-capable device is detected"
	exit 3
fi
echo "# nThread 1 nGpus 1 minBytes 8 maxBytes 134217728 step: 2(factor) warmup iters: 1 iters: 20 validation: 1"
echo "# Using devices"
rank=0
for host in $(scontrol show hostnames "$SLURM_NODELIST"); do
	device=0
	while [ $device -lt $((SLURM_NTASKS / SLURM_NNODES)) ]; do
		echo "#  Rank  $rank Group  0 Pid  $$ on  $host device  $device [0x10] Pretended GPU"
		device=$((device + 1)) rank=$((rank + 1))
	done
done
size=8
speed=$(cat "$(dirname "$0")/SPEED")
while [ $size -le 134217728 ]; do
	figure=$((speed * (size / 1024) / 131072))
	figure=$((figure / 1000)).$(printf %03d $((figure % 1000)))
	echo "  $size  $((size / 4))  float  sum  -1  30.00  $figure  $figure  0  29.00  $figure  $figure  0"
	size=$((size * 2))
done
echo "# Out of bounds values : 0 OK"
echo "# Avg bus bandwidth    : 12.5"
"""


def install_version(fsx: Path, version: str = VERSION, code: int = CODE, speed_mb: int = 90_000) -> Path:
    """Put a version into ``nccl/versions`` and make it the current one; give its folder."""
    folder = fsx / "nccl/versions" / version
    for name in ("lib", "bin", "include"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    lib = folder / "lib"
    _compile(_LIBRARY % code, "-shared", "-fPIC", "-Wl,-soname,libnccl.so.2", "-o", str(lib / "libnccl.so.2"))
    (lib / "libnccl.so").symlink_to("libnccl.so.2")
    (folder / "include/nccl.h").write_text(f"#define NCCL_VERSION_CODE {code}\n")
    _compile(_PLUGIN, "-shared", "-fPIC", "-o", str(lib / "libnccl-net-ofi.so"))
    program = str(folder / "bin/all_reduce_perf")
    _compile(_PROGRAM, "-o", program, f"-L{lib}", "-lnccl", "-Wl,-rpath,$ORIGIN/../lib")
    Path(f"{program}.sh").write_text(_SCRIPT)
    Path(f"{program}.sh").chmod(0o755)
    (folder / "bin/SPEED").write_text(f"{speed_mb}\n")
    manifest = Manifest(
        id=version,
        nccl="2.28.7-1",
        ofi="1.17.2-aws",
        ofi_folder="lib",
        tests="2.17.6",
        cuda="13.0",
        libfabric="",
        mpi="",
        architectures=["sm_90"],
        machine="x86_64",
        sources={},
        installed_s=1.7e9,
    )
    (folder / "manifest.json").write_bytes(manifest.format())
    current = fsx / "nccl/current"
    current.unlink(missing_ok=True)
    current.symlink_to(f"versions/{version}")
    return folder


def _compile(source: str, *arguments: str) -> None:
    subprocess.run(["cc", "-x", "c", "-O1", "-", "-x", "none", *arguments], input=source.encode(), check=True)
