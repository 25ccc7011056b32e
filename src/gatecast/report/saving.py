"""A run -> its folder, with the page."""

from __future__ import annotations

from pathlib import Path

from gatecast import store
from gatecast.arguments import checked
from gatecast.report.page import render
from gatecast.runs import Run


@checked
def save_run(run: Run, folder: str | Path) -> Run:
    """Writes a run into `folder` and draws its `report.html` there; returns it with its `path`.

    A gatecast run that is there already becomes `<folder>.previous`, in place of an older one.

    Raises `StoreError` when something else is there, another process writes there, or it cannot be written; then
    nothing has changed. Where only the page cannot be written, the run is saved and `gatecast report FOLDER` draws it.
    """
    saved = store.save_run(run, folder)
    store.write_page(saved.path or folder, render(saved))
    return saved
