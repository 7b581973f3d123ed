"""Set up and go, with nothing but Python: ``python3 start.py demo`` or ``python3 start.py test``.

Makes ``.venv``, installs the locked packages into it, and then
    demo    searches on a synthetic set of faces and exports the winner to out/
    test    runs the tests; what follows goes to pytest
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE / ".venv"
BIN = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
LOCKS = {"demo": "requirements.lock", "test": "requirements-test.lock"}


def run(*command: object) -> None:
    """Show a command, run it, stop where it fails."""
    print("$", *command, flush=True)
    done = subprocess.run([str(part) for part in command], cwd=HERE)
    if done.returncode:
        sys.exit(done.returncode)


def install(lock: str) -> None:
    """The locked packages, then this project, editable."""
    python = BIN / "python"
    if not python.exists() and not python.with_suffix(".exe").exists():
        venv.create(ENVIRONMENT, with_pip=True)
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "-q")
    run(*pip, "--require-hashes", "-r", lock)
    run(*pip, "--no-deps", "--no-build-isolation", "-e", ".")


def main() -> None:
    """Do what was asked."""
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what not in LOCKS or not (3, 11) <= sys.version_info < (3, 14):
        sys.exit(f"{__doc__}\nNeeds Python 3.11, 3.12 or 3.13, as TensorFlow does; this is {sys.version.split()[0]}.")
    install(LOCKS[what])
    if what == "test":
        run(BIN / "python", "-m", "pytest", *sys.argv[2:])
        return
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # the locked TensorFlow is the one for CPUs
    run(BIN / "fkpsearch", "run", "spaces/laptop.yaml", "--data", "demo", "--name", "demo", "--trials", 8)
    run(BIN / "fkpsearch", "export", "demo", "--to", "out")


if __name__ == "__main__":
    main()
