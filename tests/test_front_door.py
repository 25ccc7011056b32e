"""What a user sees of the package: public names and nothing else."""

from __future__ import annotations

import gatecast


def test_tab_offers_public_names_alone() -> None:
    assert gatecast.run is not None  # loading a name brings no other into sight
    assert dir(gatecast) == sorted([*gatecast.__all__, "__version__"])
    assert all(getattr(gatecast, name) is not None for name in dir(gatecast))
