"""What a supervisor's trainings run on, as plain data that fits into one attribute of a study.

Enough to say later why a value did not come back. Nothing heavy is imported for it: versions are those of the
installed files.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from fkpsearch import __version__
from fkpsearch.places import Place, cores, find_gpus, memory_limit

LIMIT = 2045
"""Characters of JSON that every Optuna storage takes as one attribute"""

PACKAGES = (
    "keras", "keras-tuner", "tensorflow", "tensorflow-cpu", "jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin",
    "torch", "optuna", "numpy", "opencv-python-headless", "opencv-python", "ray",
)  # fmt: skip
"""Those that compute or choose; the ones that are installed are recorded"""

VARIABLES = (
    "TF_ENABLE_ONEDNN_OPTS", "TF_DETERMINISTIC_OPS", "TF_XLA_FLAGS", "XLA_FLAGS", "NVIDIA_TF32_OVERRIDE",
    "JAX_DEFAULT_MATMUL_PRECISION", "JAX_PLATFORMS", "KERAS_TORCH_DEVICE",
)  # fmt: skip
"""Environment variables that change what a backend computes"""

MATTERS = {
    "python": "Python", "system": "the system", "backend": "the Keras backend", "cpu": "the CPU", "cores": "cores",
    "gpus": "the GPUs", "data": "the data's fingerprint",
}  # fmt: skip
"""What can change a value, in words; host, time, memory and command cannot"""


def record(command: str, fingerprint: str, places: Sequence[Place] = ()) -> dict[str, Any]:
    """The environment of a supervisor, below 2,046 characters as JSON.

    ``command`` is its command line, without any password; ``fingerprint`` the data's.
    """
    found: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname()[:64],
        "command": command,
        "revision": revisions(),
        "python": platform.python_version(),
        "packages": {"fkpsearch": __version__, **versions()},
        "backend": backend(),
        "variables": {name: os.environ[name][:100] for name in VARIABLES if name in os.environ},
        "system": f"{platform.system()} {platform.release()} {platform.machine()}"[:100],
        "cpu": cpu_model()[:80],
        "cores": cores(),
        "memory": round(memory_limit() / 2**30, 1),
        "gpus": counted(gpu.model for gpu in find_gpus())[:8],
        "places": counted(place.label for place in places)[:16],
        "threads": max((place.threads for place in places), default=cores()),
        "data": fingerprint,
    }
    while command and len(json.dumps(found)) > LIMIT:  # the command is the only part of any length
        command = command[: -max(1, len(command) // 20)]
        found["command"] = command + "…"
    return found


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What in two records can make trainings differ, a line each: ``keras: 3.14.0 then, 3.15.1 now``."""
    pairs = [(words, then[name], now[name]) for name, words in MATTERS.items() if name in then and name in now]
    for name in ("packages", "variables", "revision"):
        old, new = then.get(name, {}), now.get(name, {})
        words = "revision of {}" if name == "revision" else "{}"
        pairs += [(words.format(key), old.get(key), new.get(key)) for key in dict.fromkeys([*old, *new])]
    return [f"{words}: {_said(old)} then, {_said(new)} now" for words, old, new in pairs if old != new]


def uncommitted(record: Mapping[str, Any]) -> bool:
    """Whether the code had changes that no revision names."""
    return any(revision.endswith(DIRTY) for revision in record.get("revision", {}).values())


DIRTY = "-dirty"


def revisions() -> dict[str, str]:
    """Git's revision of the working folder, and of this package where it is worked on in a folder of its own."""
    package = Path(__file__).resolve().parent
    found = {"working folder": revision(Path.cwd())}
    if _git(package, "ls-files", "--error-unmatch", "__init__.py"):  # else it is installed inside another project
        found["fkpsearch"] = revision(package)
    return {name: text for name, text in found.items() if text}


def revision(folder: Path) -> str:
    """The commit a folder is at, with ``-dirty`` where followed files have changed; empty outside of git."""
    return _git(folder, "describe", "--always", f"--dirty={DIRTY}", "--abbrev=12", "--exclude=*")


def versions() -> dict[str, str]:
    """Versions of the installed packages that matter."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)[:40]
        except metadata.PackageNotFoundError:
            continue
    return found


def backend() -> str:
    """The Keras backend a child will have, as Keras decides it."""
    if named := os.environ.get("KERAS_BACKEND"):
        return named
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        return str(json.loads((home / "keras.json").read_text())["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"


def cpu_model() -> str:
    """The CPU's name, or at least its architecture."""
    return cpu_facts().get("model name") or platform.processor() or platform.machine()


def cpu_flags() -> list[str]:
    """What the CPU can do, in Linux's words; nothing elsewhere."""
    return cpu_facts().get("flags", "").split()


def cpu_facts() -> dict[str, str]:
    """Of the first core, as Linux tells them; nothing elsewhere."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            pairs = [line.partition(":") for line in file.read(8192).split("\n\n")[0].splitlines()]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in pairs}


def counted(names: Iterable[str]) -> list[str]:
    """``["2 x NVIDIA H100"]``: equal names once."""
    return [f"{count} x {name}" if count > 1 else name for name, count in Counter(names).items()]


def _said(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
