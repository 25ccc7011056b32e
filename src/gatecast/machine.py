"""The machine that a run is made on: cores, the folder of an interrupted run, the address of searches.

Nothing here changes a result, and nothing here comes from a file: arguments, the command line and the environment set
it, so that no file of somebody else's decides what this machine writes to and connects to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from gatecast.forecasting.forecaster import Task
from gatecast.settings import Settings


class Machine(Settings):
    """Where an experiment runs; no setting of the experiment, in no settings file, and without effect on any result.

    >>> Machine(jobs=0)
    Traceback (most recent call last):
        ...
    gatecast.errors.SettingsError: Machine: jobs = 0: input should be greater than or equal to 1 (number of cores).
    """

    jobs: Annotated[int, Field(ge=1, le=1024)] = 1
    """number of cores"""
    unfinished: Path | None = None
    """folder that keeps an interrupted run's networks; left out: none are kept"""
    studies: str | None = Field(default=None, repr=False)
    """address at which searches for settings are kept: sqlite:///FILE, or postgresql+psycopg://user@host/name, a server
    that several machines share; left out: in memory"""
    index: str | None = Field(default=None, repr=False)
    """address of the index of stores: postgresql+psycopg://user@host/name, a database that several share; left out: a
    file in each store's folder"""

    @property
    def task(self) -> Task:
        """What each fit is told of it."""
        return Task(jobs=self.jobs, resume=self.unfinished, studies=self.studies)


ONE_CORE: Final = Machine()
"""One core; nothing of an interrupted run is kept, and searches stay in memory."""
