"""In a real kernel: the example notebook from top to bottom, a search that is interrupted, errors of one line."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel
from nbclient import NotebookClient

from fkpsearch.data import load_data

ROOT = Path(__file__).resolve().parents[1]

BOOK = ROOT / "examples" / "kaggle.ipynb"

FEW = '''
SPACE = """
model: {kind: cnn, input_size: 48, blocks: 2, width: {choice: [4, 8]}, heads: population, dense: {width: 16}}
training: {epochs: 3, optimizer: {kind: adam, learning_rate: {float: [1e-3, 1e-2], log: true}}}
"""
TRIALS = 2
'''
"""In place of the notebook's own parameters: seconds, not minutes"""

TINY = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import os, tiny, fkpsearch
from fkpsearch.crew import Local
Local.__init__.__defaults__ = (None, tiny.COMMAND)
TEXT = tiny.SPACE.replace("EPOCHS", "200").replace("SAMPLER", "random").replace("PRUNER", "never")
"""
"""A kernel whose searches run tiny trainers (tiny_trainer.py)"""

# ---- the notebook that people are given


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder it ran in, and the outputs of its cells by their first line of code."""
    folder = tmp_path_factory.mktemp("kaggle")
    book = nbformat.read(BOOK, as_version=4)
    (cell,) = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", ())]
    cell.source = FEW
    NotebookClient(book, timeout=500, resources={"metadata": {"path": str(folder)}}).execute()
    return folder, {cell.source.split("\n")[0]: cell.outputs for cell in book.cells if cell.cell_type == "code"}


def html_of(outputs: list[Any]) -> str:
    """What a cell's last expression shows."""
    (shown,) = [output.data["text/html"] for output in outputs if output.output_type == "execute_result"]
    return str(shown)


def printed(outputs: list[Any]) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_the_notebook_says_that_it_fell_back_to_the_synthetic_set_and_shows_it(
    executed: tuple[Path, dict[str, Any]],
) -> None:
    outputs = executed[1]["faces = fkpsearch.load_faces()"]
    assert "this is the synthetic demo set" in printed(outputs)
    assert "600 faces" in html_of(outputs)
    assert "data:image/jpeg;base64," in html_of(outputs)


def test_the_notebooks_study_is_the_one_on_disk(executed: tuple[Path, dict[str, Any]]) -> None:
    folder, outputs = executed
    with sqlite3.connect(folder / "studies" / "space" / "study.db") as database:
        query = "SELECT number, value FROM trials JOIN trial_values USING (trial_id) WHERE state = 'COMPLETE'"
        number, value = min(database.execute(query), key=lambda row: row[1])
        assert database.execute("SELECT count(*) FROM trials").fetchone() == (2,)
    (search,) = [name for name in outputs if name.startswith("study = fkpsearch.search(")]
    assert f"best {value:.3f} px" in html_of(outputs[search])
    assert html_of(outputs[search]).count("<polyline") == 2
    best = html_of(outputs["study.best"])
    assert f"trial {number}<" in best
    assert f"{value:.3f} px" in best
    assert 'alt="validation faces, given keypoints blue' in best


def test_the_live_table_ends_as_the_search_did(executed: tuple[Path, dict[str, Any]]) -> None:
    (outputs,) = [outputs for name, outputs in executed[1].items() if name.startswith("study = fkpsearch.search(")]
    assert re.match(r"here: .*studies in studies\n$", printed(outputs)), "one line, and no warning"
    (live,) = [output.data["text/html"] for output in outputs if output.output_type == "display_data"]
    assert "2 of 2 trials" in live
    assert "font-weight: bold" in live


def test_the_notebook_ends_with_a_model_a_score_and_the_head_of_a_submission(
    executed: tuple[Path, dict[str, Any]],
) -> None:
    folder, outputs = executed
    (shown,) = [html_of(found) for name, found in outputs.items() if name.startswith("exported = ")]
    metrics = json.loads((folder / "out" / "metrics.json").read_text())
    for part in ("validation", "holdout"):
        assert f">{metrics[part]['rmse']:.3f}<" in shown
    with (folder / "out" / "submission.csv").open() as file:
        rows = list(csv.reader(file))
    assert f"{len(rows) - 1:,} rows" in shown
    head = re.findall(r"<td[^>]*>(.*?)</td>", shown.split("rows</div>")[1])
    assert [head[at : at + 2] for at in range(0, 10, 2)] == rows[1:6]
    assert (folder / "out" / "model.keras").is_file()


def test_bars_and_spinners_leave_nothing_behind(executed: tuple[Path, dict[str, Any]]) -> None:
    (outputs,) = [outputs for name, outputs in executed[1].items() if name.startswith("exported = ")]
    drawn = [output.data["text/html"] for output in outputs if output.output_type == "display_data"]
    assert drawn
    assert set(drawn) == {""}


def test_the_notebook_is_stored_without_outputs() -> None:
    """They would be half a megabyte of faces that are out of date with the next change of the code."""
    book = nbformat.read(BOOK, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert BOOK.stat().st_size < 20_000


# ---- a kernel by hand


@dataclass
class Reply:
    """What a cell has brought."""

    printed: str = ""
    error: str = ""
    shown: dict[str, str] = field(default_factory=dict)
    """HTML by the id of its display, as it was last"""


@dataclass
class Kernel:
    """A running kernel."""

    manager: KernelManager
    client: BlockingKernelClient

    def run(self, code: str, seen: Callable[[Reply], None] = lambda _: None, timeout: float = 120) -> Reply:
        """Run a cell until its end; ``seen`` is told of everything it brings."""
        asked = self.client.execute(code)
        reply, end = Reply(), time.monotonic() + timeout
        while True:
            message = self.client.get_iopub_msg(timeout=max(0.1, end - time.monotonic()))
            if message["parent_header"].get("msg_id") != asked:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    reply.printed += content["text"]
                case "error":
                    reply.error = "\n".join(content["traceback"])
                case "display_data" | "update_display_data":
                    reply.shown[content["transient"]["display_id"]] = content["data"]["text/html"]
                case "status" if content["execution_state"] == "idle":
                    return reply
            seen(reply)


@pytest.fixture(scope="module")
def kernel(shared_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("kernel")
    manager, client = start_new_kernel(cwd=str(folder))
    kernel = Kernel(manager, client)
    fingerprint = load_data(shared_tiny).faces.fingerprint
    environment = {"TINY_FINGERPRINT": fingerprint, "TINY_EPOCH": "0.05"}
    assert not kernel.run(f"{TINY}\nos.environ.update({environment!r})\nfaces = {str(shared_tiny)!r}").error
    yield kernel
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_an_interrupted_search_ends_in_a_line_and_goes_on_when_called_again(kernel: Kernel, tmp_path: Path) -> None:
    pressed: list[float] = []

    def press(reply: Reply) -> None:
        """The notebook's stop button, as soon as the live table shows an epoch."""
        if not pressed and any("images/s" in html for html in reply.shown.values()):
            pressed.append(time.monotonic())
            kernel.manager.interrupt_kernel()

    code = f"fkpsearch.search(TEXT, faces, 2, workers=1, name='long', studies={str(tmp_path)!r})"
    stopped = kernel.run(code, press)
    assert pressed, "it ended before it could be interrupted"
    assert time.monotonic() - pressed[0] < 30
    folder = str(tmp_path / "long")
    line = f"stopped; running trials were put back, nothing is lost: search again, or load_study({folder!r})"
    assert stopped.error == line
    with sqlite3.connect(f"{folder}/study.db") as database:
        assert database.execute("SELECT count(*) FROM trials WHERE state = 'RUNNING'").fetchone() == (0,)
    waiting = f"print([row['number'] for row in fkpsearch.load_study({folder!r}).trials if row['state'] == 'WAITING'])"
    assert kernel.run(waiting).printed == "[0]\n"
    again = kernel.run(f"os.environ['TINY_EPOCH'] = '0'\nprint({code})")
    assert not again.error
    assert "2 of 2 trials" in again.printed


def test_what_the_user_can_mend_is_a_line_below_the_cell_and_no_traceback(kernel: Kernel) -> None:
    assert kernel.run("fkpsearch.load_space('latop')").error == (
        "error: latop: is neither a file nor a space of this package; did you mean laptop?"
    )
    wrong = kernel.run("fkpsearch.load_space('model: {kind: cnn, width: 0}\\ntraining: {epoch: 3}\\n')").error
    assert [line.partition(" (")[0] for line in wrong.splitlines()] == [
        "error: space: model.cnn.width: must be at least 1",
        "error: space: training.epoch: is not a setting; did you mean epochs?",
    ]


def test_our_own_bugs_keep_their_traceback(kernel: Kernel) -> None:
    assert "Traceback" in kernel.run("fkpsearch.load_space('laptop').nmae").error


def test_progress_in_a_cell_is_drawn_while_it_goes_on_and_gone_afterwards(kernel: Kernel) -> None:
    seen: list[str] = []
    code = """
import time
from fkpsearch.screen import progress
with progress("counting") as tick:
    for number in range(1, 6):
        time.sleep(0.3)
        tick(number, 5)
"""
    reply = kernel.run(code, lambda reply: seen.extend(reply.shown.values()))
    assert any("counting" in html and "40%" in html for html in seen)
    assert list(reply.shown.values()) == [""]
