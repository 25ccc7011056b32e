"""What a user sees of the package: public names and nothing else."""

from __future__ import annotations

import pytest

import gatecast
from gatecast import chain, experiment, runs


def test_tab_offers_public_names_alone() -> None:
    assert gatecast.run is not None  # loading a name brings no other into sight
    assert dir(gatecast) == sorted([*gatecast.__all__, "__version__"])
    assert all(getattr(gatecast, name) is not None for name in dir(gatecast))


def test_what_stood_in_experiment_is_found_there_for_one_version() -> None:
    with pytest.warns(DeprecationWarning, match=r"gatecast.experiment.make_chain is now gatecast.chain.make_chain"):
        assert experiment.make_chain is chain.make_chain
    with pytest.warns(DeprecationWarning, match="now gatecast.runs.run"):
        assert experiment.run is runs.run
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = experiment.nothing
