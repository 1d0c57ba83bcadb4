# The shared NCCL for sessions on this node that Slurm did not start, as by SSH: /etc/profile.d/nccl-shared.sh.
# For sh and bash, interactive or not. Says nothing, and changes nothing where /fsx is away, hangs, or has no NCCL.

# A job has its own version, or --nccl=off: a login shell in its script must not change that. And never root's session:
# with /fsx first in its search paths, no command would start while /fsx hangs, which is when root is needed.
if [ -z "${SLURM_JOB_ID-}" ] && [ -z "${_slurm_fsx_session-}" ] && [ "$(id -u 2>/dev/null)" != 0 ]; then
    _slurm_fsx_session=/fsx/nccl/setup-nccl-env.sh
    _slurm_fsx_status=0
    # First in a process of its own: a script that hangs, ends its shell or is not root's alone is not for this session.
    # A process that waits for a hung file system cannot even be killed, so the one that waits for it is interrupted by
    # a signal after two seconds, and goes. 42 is the answer of a script that came to its end.
    /bin/sh -c '
        trap "kill -s KILL \"\$probe\"; exit 1" ALRM
        "$1" -c "
            [ -r \"\$1\" ] || exit 1
            found=\$(find \"\${1%/*}\" \"\$1\" -prune \\( ! -user 0 -o -perm -020 -o -perm -002 -o -type l \\)) || exit 1
            [ -z \"\$found\" ] || exit 1
            . \"\$1\"
            exit 42
        " sh "$2" &
        probe=$!
        { sleep 2; kill -s ALRM "$$"; } &
        timer=$!
        wait "$probe"
        status=$?
        kill "$timer"
        exit "$status"
    ' sh "${BASH:-/bin/sh}" "$_slurm_fsx_session" </dev/null >/dev/null 2>&1 || _slurm_fsx_status=$?
    if [ "$_slurm_fsx_status" = 42 ]; then
        # The session may stop at errors and unset variables; the script need not be written for that.
        _slurm_fsx_flags=$-
        set +eu
        # shellcheck source=/dev/null
        . "$_slurm_fsx_session" </dev/null >/dev/null 2>&1
        case $_slurm_fsx_flags in *u*) set -u ;; esac
        case $_slurm_fsx_flags in *e*) set -e ;; esac
    fi
    unset _slurm_fsx_status _slurm_fsx_flags
    # Not exported: another shell may look again.
    _slurm_fsx_session=looked
fi
