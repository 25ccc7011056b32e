"""A run -> its folder, with the page."""

from __future__ import annotations

from pathlib import Path

from polars.exceptions import PolarsError

from gatecast import store
from gatecast.arguments import checked
from gatecast.compute.progress import printable
from gatecast.errors import GatecastError, StoreError, described
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


@checked
def render_saved(folder: str | Path) -> str:
    """The page of a run that is saved in `folder`, as `render` draws it.

    Raises `StoreError` where the folder is no whole run, or its scores have a part that no page can be drawn of: rows
    of the scores are read by name, and only what stands there tells whether they are all there.
    """
    run = store.load_run(folder)
    try:
        return render(run)
    except GatecastError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, PolarsError) as error:
        raise StoreError(
            f"{printable(folder)} cannot be drawn: expected the scores that gatecast wrote, got a part of scores.json "
            f"with other names or values ({described(error)}). Take the folder from a backup, or run "
            "again."
        ) from error
