"""What is known of each NCCL and EFA variable: purpose, who needs it, when it does harm, and who says so.

The one table behind the profiles, ``slurm-fsx nccl lint`` and the page ``docs/nccl-variables.md``. Where its sources
are silent it says nothing: a variable that is not here is neither good nor bad.
"""

from __future__ import annotations

from ..values import NamedTuple
from .conditions import ALWAYS, When

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .conditions import Facts

NCCL_PAGE = "https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html"
EFA_PAGE = "https://github.com/aws/aws-ofi-nccl/blob/master/doc/efa-env-var.md"
CHEAT_SHEET = "https://github.com/awslabs/awsome-distributed-ai/blob/main/1.architectures/efa-cheatsheet.md"
PLATFORM = "https://github.com/aws/aws-ofi-nccl/blob/master/src/platform-aws.cpp"
CHANNELS = "https://github.com/NVIDIA/nccl/blob/master/src/graph/connect.cc"
TUNER_THREAD = "https://github.com/aws/aws-ofi-nccl/issues/982"
"""Where it is said that a chosen algorithm or protocol keeps AWS's tuner from loading."""

STOPS_TUNER = ("NCCL_ALGO", "NCCL_PROTO")
"""Variables that keep AWS's tuner, part of the plugin from 1.16 on, from choosing algorithm and protocol."""

NETWORK = "AWS Libfabric"
"""What the AWS OFI NCCL plugin calls its network, for NCCL_NET; without quotes in the value."""

_WITH_TUNER = When(ofi=("1.16", ""))
_WITHOUT_RDMA_READ = ("p3dn", "g4dn", "g5")
_SET_BY_PLUGIN = "the plugin sets what fits the instance type; a value from outside takes its place"


def any_value(value: str) -> bool:
    """Match every value."""
    return True


def one_of(*values: str) -> Callable[[str], bool]:
    """Match any of these values, in capitals or not."""
    return lambda value: value.lower() in values


def none_of(*values: str) -> Callable[[str], bool]:
    """Match every value but these, in capitals or not, and but an empty one."""
    return lambda value: value.lower() not in ("", *values)


class Need(NamedTuple):
    """Who needs a variable, and with which value."""

    value: str
    when: When
    why: str
    source: str


class Harm(NamedTuple):
    """When a variable does harm, and which."""

    why: str
    source: str
    when: When = ALWAYS
    matches: Callable[[str], bool] = any_value
    values: str = ""
    """Which values `matches` means, in words; empty for all."""


class Variable(NamedTuple):
    """What is known of a variable."""

    name: str
    purpose: str
    source: str
    needs: tuple[Need, ...] = ()
    harms: tuple[Harm, ...] = ()
    advice: str = ""
    """What else to know before setting it: as a rule, why not to."""

    new_name: str = ""
    """What it is called today, where its name is an old one."""

    def harm(self, value: str, facts: Facts) -> Harm | None:
        """Give the harm that a value does with this software on this node; None where none is known."""
        for harm in self.harms:
            if harm.matches(value) and harm.when.holds(facts):
                return harm
        return None


VARIABLES = (
    Variable(
        "FI_PROVIDER",
        "lets libfabric use EFA and nothing else",
        EFA_PAGE,
        needs=(Need("efa", When(ofi=("", "1.6")), "the plugin does not choose EFA itself before 1.6", EFA_PAGE),),
        harms=(
            Harm(
                "NCCL's traffic goes past EFA, at a small part of its bandwidth",
                EFA_PAGE,
                matches=none_of("efa"),
                values="anything but efa",
            ),
        ),
        advice="needed up to aws-ofi-nccl 1.5; later ones choose it themselves",
    ),
    Variable(
        "FI_EFA_USE_DEVICE_RDMA",
        "lets EFA read and write GPU memory directly",
        EFA_PAGE,
        needs=(
            Need(
                "1",
                When(ofi=("", "1.7"), instances=("p4d", "p4de", "p5")),
                "the plugin does not ask for it before 1.7",
                EFA_PAGE,
            ),
            Need(
                "1",
                When(ofi=("1.7", ""), libfabric=("", "1.18"), instances=("p4d", "p4de", "p5")),
                "libfabric does not use it by itself before 1.18",
                EFA_PAGE,
            ),
        ),
        harms=(
            Harm(
                "libfabric ends the process where EFA cannot read memory remotely",
                "https://github.com/ofiwg/libfabric/blob/main/prov/efa/src/efa_hmem.c",
                When(instances=_WITHOUT_RDMA_READ),
                one_of("1", "true", "yes", "on"),
                "1",
            ),
            Harm(
                "every byte goes through the host's memory, although EFA could reach the GPU's",
                EFA_PAGE,
                When(instances=("p4d", "p4de", "p5", "p5e", "p5en", "p6-b200", "p6-b300")),
                one_of("0", "false", "no", "off"),
                "0",
            ),
        ),
        advice="not needed from libfabric 1.18 with aws-ofi-nccl 1.7 on; harmless there on p4 and p5",
    ),
    Variable(
        "NCCL_PROTO",
        "keeps NCCL to the protocol that needs no ordered delivery, which EFA does not promise",
        EFA_PAGE,
        needs=(Need("simple", When(ofi=("", "1.6")), "the plugin does not choose it itself before 1.6", EFA_PAGE),),
        harms=(
            Harm("keeps the plugin's tuner from loading, and may end the job with an error", TUNER_THREAD, _WITH_TUNER),
        ),
        advice="needed up to aws-ofi-nccl 1.5; later ones choose it themselves, and it stops their tuner",
    ),
    Variable(
        "NCCL_DEBUG",
        "lets each rank say which network and plugin it uses",
        f"{NCCL_PAGE}#nccl-debug",
        harms=(
            Harm(
                "each call of each rank writes a line, which costs time and fills disks",
                f"{NCCL_PAGE}#nccl-debug",
                matches=one_of("trace"),
                values="TRACE",
            ),
        ),
        advice="NVIDIA advises against keeping debug variables set in production",
    ),
    Variable(
        "NCCL_ALGO",
        "keeps collectives to rings",
        f"{NCCL_PAGE}#nccl-algo",
        harms=(
            Harm("keeps the plugin's tuner from loading, and may end the job with an error", TUNER_THREAD, _WITH_TUNER),
        ),
        advice="stops the tuner of aws-ofi-nccl, and NCCL's own choice by message size",
    ),
    Variable(
        "NCCL_MIN_NRINGS",
        "asks for at least so many rings",
        CHANNELS,
        advice="an old name of NCCL_MIN_NCHANNELS, which NCCL still reads; AWS recommends to leave the number to NCCL",
        new_name="NCCL_MIN_NCHANNELS",
    ),
    Variable(
        "NCCL_MAX_NRINGS",
        "asks for at most so many rings",
        CHANNELS,
        advice="an old name of NCCL_MAX_NCHANNELS, which NCCL still reads; AWS recommends to leave the number to NCCL",
        new_name="NCCL_MAX_NCHANNELS",
    ),
    Variable(
        "NCCL_MIN_NCHANNELS",
        "asks for at least so many channels, each a block of a GPU",
        f"{NCCL_PAGE}#nccl-min-nchannels",
        advice="AWS recommends to leave the number to NCCL",
    ),
    Variable(
        "NCCL_NET",
        "names the only network that NCCL may use, so that a job without it stops instead of running on sockets",
        f"{NCCL_PAGE}#nccl-net",
        harms=(
            Harm(
                "the quotes are part of the name, so NCCL finds no such network and the job ends",
                "https://docs.cscs.ch/software/communication/nccl/",
                matches=lambda value: value[:1] in ("'", '"') or value[-1:] in ("'", '"'),
                values="with quotes in it",
            ),
            Harm(
                "NCCL goes past EFA",
                f"{NCCL_PAGE}#nccl-net",
                matches=one_of("socket", "ib"),
                values="Socket, IB",
            ),
        ),
        advice="nccl.fail_fast gives jobs AWS Libfabric here",
    ),
    Variable(
        "NCCL_NET_PLUGIN",
        "names the network plugin's library, where an image has another one, as HPC-X brings",
        f"{NCCL_PAGE}#nccl-net-plugin",
        harms=(
            Harm(
                "NCCL loads no network plugin, and runs on sockets",
                f"{NCCL_PAGE}#nccl-net-plugin",
                matches=one_of("none"),
                values="none",
            ),
        ),
        advice="with ofi, NCCL finds nothing where the library is not called libnccl-net-ofi.so",
    ),
    Variable(
        "NCCL_TUNER_PLUGIN",
        "names the library that has the tuner",
        PLATFORM,
        needs=(
            Need(
                "libnccl-ofi-tuner.so",
                When(nccl=("2.19", "2.21"), ofi=("1.8", "1.16")),
                "NCCL 2.19 and 2.20 look for no tuner by themselves",
                "https://github.com/aws/aws-ofi-nccl/issues/472",
            ),
        ),
        harms=(
            Harm(
                "the plugin names its tuner itself from 1.16 on, and NCCL may not take a path",
                "https://github.com/aws/aws-ofi-nccl/pull/932",
                _WITH_TUNER,
                lambda value: "/" in value,
                "a path",
            ),
        ),
        advice="from 1.16 on the plugin sets it; where it must be set, ofi is enough",
    ),
    Variable(
        "FI_EFA_FORK_SAFE",
        "keeps registered memory right in a process that forks",
        CHEAT_SHEET,
        advice="not needed: the plugin always sets it",
    ),
    *(
        Variable(
            name,
            "changes how the verbs library registers memory",
            CHEAT_SHEET,
            harms=(Harm("AWS: do not use, it can break things; the plugin sets FI_EFA_FORK_SAFE", CHEAT_SHEET),),
        )
        for name in ("RDMAV_FORK_SAFE", "RDMAV_HUGEPAGES_SAFE", "IBV_FORK_SAFE")
    ),
    Variable(
        "FI_EFA_USE_HUGE_PAGE",
        "with 0, EFA's buffers leave huge pages alone: for programs whose fork fails with ENOMEM, as data loaders",
        CHEAT_SHEET,
        advice="costs a little; set it only where fork fails",
    ),
    Variable(
        "FI_EFA_SET_CUDA_SYNC_MEMOPS",
        "with 0, libfabric leaves CUDA's memory operations as they are",
        "https://github.com/aws/aws-ofi-nccl/issues/584",
        advice="0 is for EFA installers before 1.29.1 with NCCL from 2.19 on, and for nothing else",
    ),
    Variable(
        "FI_EFA_ENABLE_SHM_TRANSFER",
        "lets libfabric use shared memory within a node",
        CHEAT_SHEET,
        advice="has no effect: the plugin turns it off, since NCCL has its own way within a node",
    ),
    Variable(
        "NCCL_NVLS_ENABLE",
        "with 0, NCCL leaves NVLink SHARP alone",
        PLATFORM,
        harms=(
            Harm(
                "turns NVLink SHARP off, which speeds up collectives within a node; before NCCL 2.18.5 the plugin "
                "turns it off itself",
                PLATFORM,
                When(nccl=("2.18.5", ""), instances=("p5", "p5e", "p5en", "p6-b200", "p6-b300")),
                one_of("0"),
                "0",
            ),
        ),
        advice="0 only against a certain fault, as https://github.com/NVIDIA/nccl/issues/1906",
    ),
    *(
        Variable(name, purpose, PLATFORM, advice=f"{_SET_BY_PLUGIN} ({where})")
        for name, purpose, where in (
            ("NCCL_BUFFSIZE", "sizes the buffer between two GPUs", "p4d to p6, g7e"),
            ("NCCL_P2P_NET_CHUNKSIZE", "sizes the messages of sends and receives", "p4d to p6, g7e"),
            ("NCCL_NVLSTREE_MAX_CHUNKSIZE", "sizes the messages of NVLink SHARP trees", "p5 to p6"),
            ("NCCL_NVLS_CHUNKSIZE", "sizes the messages of NVLink SHARP", "p5 to p6"),
            ("NCCL_NET_FORCE_FLUSH", "whether what was received is flushed to the GPU", "p5 to p6"),
            ("NCCL_NETDEVS_POLICY", "how many network cards a GPU uses", "p5en and p6-b200, from NCCL 2.28 on"),
        )
    ),
    Variable(
        "NCCL_TOPO_FILE",
        "names a file that describes the node's buses",
        PLATFORM,
        advice="the plugin names its own on p4d, p4de and g5.48xlarge; in a container, the path must be there, too",
    ),
    Variable(
        "NCCL_SOCKET_IFNAME",
        "names the network interfaces over which ranks first meet",
        CHEAT_SHEET,
        harms=(
            Harm(
                "leaves no interface where the node's only one is called eth0, as in some images and on Kubernetes",
                "https://github.com/awslabs/awsome-distributed-ai/pull/569",
                matches=lambda value: value.startswith("^") and "eth" in value[1:].replace("=", "").split(","),
                values="^ with eth",
            ),
        ),
        advice="NCCL leaves lo and docker out by itself; en fits p4 and p5, whose names differ",
    ),
    *(
        Variable(name, purpose, CHEAT_SHEET, advice="has no effect with EFA: it is for sockets")
        for name, purpose in (
            ("NCCL_NSOCKS_PERTHREAD", "how many sockets a thread has"),
            ("NCCL_SOCKET_NTHREADS", "how many threads serve a connection's sockets"),
        )
    ),
    Variable(
        "NCCL_SHM_USE_CUDA_MEMCPY",
        "lets the copy engines move what goes through shared memory, on GPUs without NVLink",
        CHEAT_SHEET,
        needs=(Need("1", When(instances=("g5", "g6")), "twice the speed between GPUs without NVLink", CHEAT_SHEET),),
    ),
    *(
        Variable(
            name,
            purpose,
            f"{NCCL_PAGE}#{name.lower().replace('_', '-')}",
            harms=(
                Harm(
                    why,
                    f"{NCCL_PAGE}#{name.lower().replace('_', '-')}",
                    matches=one_of("1"),
                    values="1",
                ),
            ),
            advice="for finding faults alone",
        )
        for name, purpose, why in (
            ("NCCL_P2P_DISABLE", "with 1, GPUs do not reach each other directly", "goes past NVLink within the node"),
            ("NCCL_SHM_DISABLE", "with 1, NCCL uses no shared memory", "goes over the network within the node"),
        )
    ),
    Variable(
        "NCCL_DEBUG_SUBSYS",
        "chooses what NCCL_DEBUG says",
        f"{NCCL_PAGE}#nccl-debug-subsys",
        advice="NVIDIA advises against keeping debug variables set in production",
    ),
)

BY_NAME = {variable.name: variable for variable in VARIABLES}
