"""Draws docs/report.png, the first screen of a study's report: ``python docs/draw_report.py STUDY``.

It needs the `test` extra's playwright and a Chromium; the report is written anew into the study's folder.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from fkpsearch.ledger import find
from fkpsearch.report import write_report

TO = Path(__file__).with_name("report.png")
SIZE = {"width": 1120, "height": 1016}
"""Down to what stands below the first two figures"""


def main(study: str) -> None:
    """Write the report, open it, take its picture."""
    page = write_report(find(study, Path("studies")), command=f"fkpsearch report {study}")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        window = browser.new_page(viewport=SIZE)
        window.goto(page.resolve().as_uri())
        window.wait_for_timeout(1000)  # figures settle
        window.screenshot(path=TO)
        browser.close()
    print(f"{TO}: {TO.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1])
