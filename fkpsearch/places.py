"""Where the workers of one machine train: which GPU and how much of it, or how many of the cores.

A worker is a process, and a place is what is put into that process' environment. Nothing here imports a Keras backend:
GPUs are known from ``nvidia-smi``, cores from what the kernel lets this process have (affinity and cgroup quota).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from fkpsearch.errors import InputError, Problem, short

AUTO: Literal["auto"] = "auto"

THREADS = "FKPSEARCH_THREADS"
"""How many threads a process computes with. In the supervisor's own environment: how many cores its workers divide."""

GPU_MEMORY = "FKPSEARCH_GPU_MEMORY"
"""MiB a process may take of its GPU"""

NO_GPU = (6, 9, 12)
"""Exit statuses of nvidia-smi where there is no device, no driver or no library of the driver's (its manual page)"""

VISIBLE = "CUDA_VISIBLE_DEVICES"

ON_GPU = "FKPSEARCH_ON_GPU"
"""1 in a process that has been given a GPU, whether or not its backend sees it"""

FRACTION, NEWER = "XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION"
"""Names by which JAX is told its share of a GPU; an empty value says nothing"""

WORKER_MEMORY = 1.5
"""GiB a training process may need; ``auto`` starts no more than fit. On faces96 a net of spaces/laptop.yaml peaks at
0.96 (VmHWM)"""

CONTEXT = 600
"""MiB of a GPU that each process takes beside its tensors: the driver's context and the loaded kernels"""

MOST_PER_CORE = 32
"""Workers a core: the engine is measured with 64 children on two cores, and more than that is a slip of the pen"""


@dataclass(frozen=True)
class Place:
    """Where one worker trains. Equal places are interchangeable: a warm process for one serves the other."""

    label: str
    """For people: ``GPU 0``, ``GPU 0 (1/2)``, ``2 cores``"""
    environment: Mapping[str, str] = field(hash=False)
    """Goes over the supervisor's own environment; read only"""
    share: float
    """GPUs it occupies, for ``--gpu-hours``: 1 over the workers of the GPU. 0 on a CPU, which uses no GPU hours"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "environment", MappingProxyType(dict(self.environment)))

    def __reduce__(self) -> tuple[type[Place], tuple[str, dict[str, str], float]]:
        return Place, (self.label, dict(self.environment), self.share)  # a read-only mapping cannot be pickled

    @property
    def threads(self) -> int:
        """How many threads its process computes with: all cores where nothing is said."""
        return int(self.environment.get(THREADS) or cores())


@dataclass(frozen=True)
class Gpu:
    """One GPU this process may use."""

    name: str
    """As CUDA_VISIBLE_DEVICES names it: an index, or a UUID"""
    memory: int | None
    """MiB; None where nvidia-smi does not say, as of a part of a GPU (MIG)"""
    model: str


def places(workers: int | Literal["auto"], *, per_gpu: int = 1, trials: int) -> tuple[Place, ...]:
    """A place for each worker: on the GPUs where there are any, else on the cores, which are divided.

    ``trials`` is how many the whole study shall have: ``auto`` makes no more places than that, and as many when a
    search goes on as when it began. Raises InputError where the machine has no such places.
    """
    gpus = find_gpus()
    if workers != AUTO and int(workers) < 1:
        raise InputError(Problem("--workers", f"must be 1 or more, or {AUTO}", workers))
    if per_gpu < 1:
        raise InputError(Problem("--per-gpu", "must be 1 or more", per_gpu))
    if per_gpu > 1 and not gpus:
        raise InputError(Problem("--per-gpu", "needs a GPU and this machine shows none", per_gpu, "leave it out"))
    most = len(gpus) * per_gpu or MOST_PER_CORE * cores()
    wanted = max(1, min(trials, most if gpus else fitting())) if workers == AUTO else int(workers)
    if wanted > most:
        raise InputError(Problem("--workers", f"must be at most {most} on this machine", wanted, more(gpus, wanted)))
    threads = max(1, cores() // wanted)
    if gpus:
        return tuple(on_gpu(gpus[number % len(gpus)], per_gpu, threads) for number in range(wanted))
    return (on_cores(threads),) * wanted


def on_cores(threads: int) -> Place:
    """The place of a worker that computes on the CPU with so many threads."""
    return Place(f"{threads} core{'s' if threads > 1 else ''}", threads_environment(threads), 0.0)


def on_gpu(gpu: Gpu, per_gpu: int, threads: int) -> Place:
    """The place of one of ``per_gpu`` workers of a GPU.

    A worker that has the GPU to itself has no limit; else each gets its part of what the contexts leave, that of
    one warm spare included.
    """
    environment = {VISIBLE: gpu.name, ON_GPU: "1", **threads_environment(threads)}
    if VISIBLE not in os.environ:
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # nvidia-smi's; CUDA's own is the fastest first
    if per_gpu > 1 and gpu.memory:
        memory = max(1, (gpu.memory - (per_gpu + 1) * CONTEXT) // per_gpu)
        environment |= {GPU_MEMORY: str(memory), FRACTION: f"{memory / gpu.memory:.3f}", NEWER: ""}  # not both
    elif not {FRACTION, NEWER} & os.environ.keys():
        environment[FRACTION] = "0.95"  # JAX would take three quarters for its limit
    part = f" (1/{per_gpu})" if per_gpu > 1 else ""
    return Place(f"GPU {gpu.name}{part}", environment, 1 / per_gpu)


def threads_environment(threads: int) -> dict[str, str]:
    """What makes a process compute with so many threads, whichever backend it has; see device.py for the rest."""
    names = (THREADS, "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC")  # the last: JAX
    return dict.fromkeys(names, str(threads))


def more(gpus: tuple[Gpu, ...], workers: int) -> str:
    """What to write where the machine has too few places."""
    if not gpus:
        return "one for each core is enough"
    return f"--per-gpu {-(-workers // len(gpus))} lets them share a GPU"


def fitting() -> int:
    """How many workers ``auto`` starts on the CPU: one a core, as far as the memory goes."""
    return max(1, min(cores(), int(memory_limit() / 2**30 / WORKER_MEMORY)))


def find_gpus() -> tuple[Gpu, ...]:
    """The GPUs this process may use, in nvidia-smi's order or that of CUDA_VISIBLE_DEVICES. Raises InputError."""
    if os.environ.get(VISIBLE) in ("", "-1"):
        return ()
    known = installed_gpus()
    if VISIBLE not in os.environ:
        return tuple(Gpu(index, memory, model) for index, (_, memory, model) in known.items())
    found = []
    for name in filter(None, (part.strip() for part in os.environ[VISIBLE].split(","))):
        if name.lstrip("-").isdigit() and name not in known:
            break  # as CUDA does: what follows a name that is none does not count
        rows = (row for index, row in known.items() if name == index or row[0].startswith(name))
        _, memory, model = next(rows, (name, None, "a part of a GPU"))
        if name in known and memory and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
            memory = min(row[1] or memory for row in known.values())  # CUDA counts the fastest first: it may be another
        found.append(Gpu(name, memory, model))
    return tuple(found) if known else ()


@cache
def installed_gpus() -> dict[str, tuple[str, int | None, str]]:
    """What nvidia-smi lists: index -> UUID, memory in MiB, model. Empty where there is none.

    Raises InputError where there may be some, but it does not say: a search on the CPU is not what was wanted.
    """
    query = ["nvidia-smi", "--query-gpu=index,uuid,memory.total,name", "--format=csv,noheader,nounits"]
    advice = "mend that, or set CUDA_VISIBLE_DEVICES= to do without GPUs"
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return {}
    except subprocess.TimeoutExpired:
        raise InputError(Problem("nvidia-smi", "does not answer within 30 s", advice=advice)) from None
    rows = [[cell.strip() for cell in line.split(",", 3)] for line in done.stdout.splitlines()]
    found = {
        row[0]: (row[1], int(row[2]) if row[2].isdigit() else None, row[3])
        for row in rows
        if len(row) == 4 and row[0].isdigit()
    }
    if not found and done.returncode not in (0, *NO_GPU):
        said = (f"{done.stdout}{done.stderr}".strip().splitlines() or ["no word"])[0]
        raise InputError(Problem("nvidia-smi", f"fails: {short(said, 200)}", done.returncode, advice))
    return found


def cores() -> int:
    """Cores this process may use: by its affinity, its cgroup's quota and FKPSEARCH_THREADS."""
    affinity = getattr(os, "sched_getaffinity", None)
    found = len(affinity(0)) if affinity else os.cpu_count() or 1
    asked = os.environ.get(THREADS, "")
    limits = [quota for quota in map(quota_of, cgroups()) if quota]
    if asked.isdigit() and int(asked):
        limits.append(float(asked))
    return max(1, int(min([found, *limits])))


def memory_limit() -> float:
    """Bytes of memory this process and its children may use together: the machine's, or their cgroup's if less."""
    found = [float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")]
    for group in cgroups():
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(group / name)
            if text.isdigit():
                found.append(float(text))
    return min(found)


def cgroups(root: Path = Path("/sys/fs/cgroup")) -> list[Path]:
    """The folders of this process' control groups and of all groups above them, both versions'."""
    found: list[Path] = []
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        for base in [root / name for name in controllers.split(",")] if controllers else [root]:
            group = base / path.strip("/")
            found += [group, *(above for above in group.parents if above.is_relative_to(base))]
    return list(dict.fromkeys(found))


def quota_of(group: Path) -> float | None:
    """Cores a control group may use at once, None where it has no limit."""
    quota, _, period = _read(group / "cpu.max").partition(" ")
    if not quota:
        quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
