"""Progress bars: one a stage, on a terminal and in a notebook; nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from html import escape
from typing import Any, Protocol

Progress = Callable[[str, int, int], None]
"""What hears that so many parts of a stage, of so many, are done."""


class Handle(Protocol):
    """Something that is shown and can be replaced in place."""

    def update(self, html: str) -> None:
        """Shows other HTML in its place."""


Display = Callable[[str], Handle]
"""Shows HTML and gives the handle that replaces it."""


@contextmanager
def shown(progress: Progress | bool | None) -> Iterator[Progress | None]:
    """What hears of progress: the function given; with True, bars on standard error or in the notebook.

    >>> heard = []
    >>> with shown(lambda stage, done, total: heard.append((stage, done, total))) as progress:
    ...     progress("index: lstm", 1, 4)
    >>> heard
    [('index: lstm', 1, 4)]
    """
    if progress is True:
        with bars() as stages:
            yield stages
    else:
        yield progress or None


def bars(display: Display | None = None) -> TerminalBars | NotebookBars:
    """One bar a stage: in a notebook as HTML, else on the terminal; `display` (of IPython) makes it a notebook."""
    from rich.console import Console

    if display is None and Console().is_jupyter:
        return NotebookBars(_display)
    return NotebookBars(display) if display else TerminalBars()


class TerminalBars(AbstractContextManager["TerminalBars"]):
    """One bar a stage on standard error where that is a terminal, nothing elsewhere.

    What follows " | " in the name of a stage may change as it goes.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress as Bars

        console = Console(stderr=True)
        self.bar = Bars(console=console, disable=not console.is_terminal, transient=True)
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> TerminalBars:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """So much of a stage is done."""
        name, text = _name_and_text(stage)
        if name not in self.tasks:
            self.tasks[name] = self.bar.add_task(printable(name), total=total)
        self.bar.update(self.tasks[name], completed=done, total=total, description=printable(text))


class NotebookBars(AbstractContextManager["NotebookBars"]):
    """One bar a stage in one output of a notebook cell, replaced as the stages go on.

    >>> class Handle:
    ...     def update(self, html): print(html)
    >>> with NotebookBars(lambda html: Handle()) as stages:
    ...     stages("index: lstm", 1, 4)
    <div><progress value="1" max="4"></progress> index: lstm, 1 of 4</div>
    """

    def __init__(self, display: Display) -> None:
        self.display = display
        self.handle: Handle | None = None
        self.lines: dict[str, str] = {}

    def __exit__(self, *_: object) -> None:
        """The last bars stay in the notebook."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """So much of a stage is done."""
        name, text = _name_and_text(stage)
        bar = f'<progress value="{done}" max="{max(total, 1)}"></progress>'
        line = f"<div>{bar} {escape(printable(text))}, {done} of {total}</div>"
        if self.lines.get(name) == line:
            return
        self.lines[name] = line
        if self.handle is None:
            self.handle = self.display("")
        self.handle.update("".join(self.lines.values()))


def printable(value: object) -> str:
    """Text that cannot steer a terminal: control characters are written out.

    >>> printable("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(value))


def _name_and_text(stage: str) -> tuple[str, str]:
    """What names a stage's bar, and what stands beside it."""
    name, _, now = stage.partition(" | ")
    return name, f"{name}, {now}" if now else name


def _display(html: str) -> Handle:
    """Shows HTML in the notebook that runs this process."""
    from IPython.display import HTML, display

    handle = display(HTML(html), display_id=True)

    class InPlace:
        def update(self, html: str) -> None:
            handle.update(HTML(html))

    return InPlace()
