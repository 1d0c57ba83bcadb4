#!/bin/sh
# Puts this version of slurm-fsx-tools on this machine, beside those that are there, and lets it be the one that runs.
#
#   sh install.sh [--prefix=/opt/slurm-fsx] [--python=/usr/bin/python3] [--without-plugin]
#
# Runs as root on a machine that has nothing of ours: all it needs is a Python of 3.9 or newer, and tools of POSIX.
set -u
LC_ALL=C
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH

fail() {
	printf 'install.sh: %s\n            %s\n' "$1" "$2" >&2
	exit 1
}

here=$(cd -P "$(dirname "$0")" && pwd) || exit 1
[ -r "$here/MANIFEST" ] || fail "$here has no MANIFEST" "unpack the archive again, whole"

wanted=$(cat "$here/share/slurm-fsx/archive/machine")
[ "$(uname -m)" = "$wanted" ] ||
	fail "this archive is for $wanted, and this machine is $(uname -m)" "take the one for $(uname -m): make dist makes it there"

python=''
for argument in "$@"; do
	case $argument in
	--python=*) python=${argument#--python=} ;;
	esac
done
for candidate in ${python:-python3 python3.13 python3.12 python3.11 python3.10 python3.9}; do
	found=$(command -v "$candidate" 2>/dev/null) || continue
	"$found" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null || continue
	python_found=$found
	break
done
[ -n "${python_found-}" ] ||
	fail "no Python of 3.9 or newer${python:+ in $python}; here is $(python3 -V 2>&1)" "install python3, or say --python=PATH"
# Bytecode is for one Python, and not written here: the folder may be somebody's shared one.
exec "$python_found" -I -B -c '
import sys
sys.path.insert(0, sys.argv.pop(1))
from slurm_fsx_tools.__main__ import main
main()' "$here/lib/python3/site-packages" setup place "$here" "$@"
