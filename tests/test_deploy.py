"""The templates in docs/deploy: what they say is what this command line understands, and the Slurm one is run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from fkpsearch.cli import app
from fkpsearch.ledger import read
from fkpsearch.storage import check_url

DEPLOY = Path(__file__).resolve().parents[1] / "docs" / "deploy"

SPACE = """
model: {kind: cnn, input_size: 48, blocks: 1, width: 2, dense: {width: {int: [4, 64]}}}
training: {epochs: 1, batch_size: 16}
split: {validation: 0.2, holdout: 0.1}
study: {sampler: {kind: random}, pruner: {kind: never}}
"""

STUB = """#!/bin/bash
# srun in the place of Slurm's: two nodes, one after another, as each works on the study until its end
while [[ $1 == --* ]]; do shift; done
for SLURM_PROCID in 0 1; do SLURM_PROCID=$SLURM_PROCID "$@" || exit $?; done
"""


def understood(words: Sequence[str]) -> dict[str, Any]:
    """What the command line makes of ``fkpsearch ...``, without doing it. Raises where it does not understand."""
    assert words[0] == "fkpsearch"
    command = typer.main.get_command(app)
    with command.make_context("fkpsearch", list(words[1:]), resilient_parsing=False) as context:
        name, subcommand, rest = command.resolve_command(context, [*context._protected_args, *context.args])  # type: ignore[attr-defined]
        with subcommand.make_context(name, rest, parent=context) as inner:
            return {"": name, **inner.params}


def kubernetes() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


@pytest.fixture(autouse=True)
def _storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FKPSEARCH_STORAGE", "postgresql://somebody@host/faces")


@pytest.mark.parametrize("words", [["fkpsearch", "worker", "--studdy", "x"], ["fkpsearch", "run"]])
def test_a_command_that_is_not_ours_would_be_noticed(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"No such option|Missing parameter"):
        understood(words)


def test_kubernetes_starts_one_run_and_workers_of_the_same_study() -> None:
    jobs = {job["metadata"]["name"]: job for job in kubernetes()}
    assert all((job["apiVersion"], job["kind"]) == ("batch/v1", "Job") for job in jobs.values())
    pods = {name: job["spec"]["template"]["spec"] for name, job in jobs.items()}
    told = {name: understood(pod["containers"][0]["command"]) for name, pod in pods.items()}
    run, workers = told["fkpsearch-run"], told["fkpsearch-workers"]
    assert (run[""], workers[""]) == ("run", "worker")
    assert run["name"] == workers["study"]
    assert (run["storage"], workers["storage"]) == ("postgresql://somebody@host/faces",) * 2
    for job in jobs.values():
        assert job["spec"]["template"]["metadata"]["labels"]["app"] == job["metadata"]["labels"]["app"]
    assert jobs["fkpsearch-workers"]["spec"]["parallelism"] == jobs["fkpsearch-workers"]["spec"]["completions"]


def test_kubernetes_mounts_what_is_named_and_keeps_the_password_a_secret() -> None:
    for job in kubernetes():
        pod = job["spec"]["template"]["spec"]
        assert pod["restartPolicy"] == "OnFailure"  # a Job takes no other that tries again in the same pod
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
        paths = [word for word in container["command"] if word.startswith("/")]
        assert all(any(Path(path).is_relative_to(mount) for mount in mounts.values()) for path in paths)
        (variable,) = container["env"]
        assert variable == {
            "name": "FKPSEARCH_STORAGE",
            "valueFrom": {"secretKeyRef": {"name": "fkpsearch", "key": "storage"}},
        }


def test_compose_waits_for_its_database_and_mounts_what_is_named() -> None:
    told = compose()
    services = told["services"]
    assert services["database"]["healthcheck"]["test"][0] == "CMD-SHELL"
    run, worker = (understood(services[name]["command"]) for name in ("run", "worker"))
    assert run["name"] == worker["study"]
    for name in ("run", "worker"):
        service = services[name]
        assert service["depends_on"] == {"database": {"condition": "service_healthy"}}
        url = service["environment"]["FKPSEARCH_STORAGE"]
        assert url.partition("@")[2] == f"database/{services['database']['environment']['POSTGRES_DB']}"
        check_url(re.sub(r"\$\{.*?\}", "0123abcd", url))
        mounts = [volume.split(":")[1] for volume in service["volumes"]]
        named = [word for word in service["command"] if word.startswith("/")]
        own = [path for path in named if path.startswith("/tmp/")]  # a container's own room
        assert all(any(Path(path).is_relative_to(mount) for mount in mounts) for path in named if path not in own)
    used = {v.split(":")[0] for s in services.values() for v in s["volumes"] if not v.startswith(".")}
    assert used == set(told["volumes"])
    text = re.sub(r"(?m)#.*$", "", (DEPLOY / "compose.yaml").read_text())
    assert re.findall(r"://\w+:(.*?)@|PASSWORD: (.*)", text) == [
        ("${POSTGRES_PASSWORD:?in the file .env}", ""),
        ("", "${POSTGRES_PASSWORD:?in the file .env}"),
    ]


def test_the_slurm_script_is_bash_and_its_commands_are_ours() -> None:
    script = DEPLOY / "slurm.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text().replace("\\\n", " ")
    found = re.findall(r"exec (fkpsearch .*)", text)
    assert [understood(shlex.split(line.replace("$TRIALS", "3")))[""] for line in found] == ["run", "worker"]
    assert text.startswith("#!/bin/bash\n")  # sbatch takes nothing else


def test_the_slurm_script_brings_a_study_to_its_end(shared_tiny: Path, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    ours = f'#!/bin/bash\nexec {sys.executable} -m fkpsearch.cli "$@"\n'
    for name, text in {"srun": STUB, "fkpsearch": ours}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (tmp_path / "faces.yaml").write_text(SPACE)
    env = {name: value for name, value in os.environ.items() if name != "FKPSEARCH_STORAGE"}
    env |= {
        "PATH": f"{programs}:{env['PATH']}", "SPACE": str(tmp_path / "faces.yaml"), "TRIALS": "1",
        "DATA": str(shared_tiny), "SHARED": str(tmp_path),
    }  # fmt: skip
    done = subprocess.run(
        ["bash", DEPLOY / "slurm.sbatch"], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("1 of 1 trials finished") == 2  # the node that joined found it finished
    (folder,) = [path.parent for path in tmp_path.glob("studies/*/faces/trials")]
    ledger = read(folder, f"journal:///{tmp_path / 'faces.journal'}")
    assert [trial.state.name for trial in ledger.trials] == ["COMPLETE"]
