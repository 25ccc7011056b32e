"""One case of each part of `make soak`."""

from __future__ import annotations

from pathlib import Path
from random import Random

from attack.readers import make_live
from soak.feeds import blocks_of, hash_after, readings, shuffled
from soak.kills import killed, twin_of


def test_an_update_that_is_killed_ends_in_the_store_of_its_twin(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    make_live(tmp_path / "examples")
    twin = twin_of(tmp_path / "examples", tmp_path / "twin", "update")
    case = killed(tmp_path / "examples", tmp_path / "killed", "update", twin, Random(3))
    assert "update, " in case.done
    assert case.wrong == ""


def test_a_shuffled_feed_ends_in_the_bars_of_the_sorted_one_and_one_that_lacks_a_correction_does_not(
    tmp_path: Path,
) -> None:
    first, second = (reading.head(3 * 40) for reading in readings(seed=5))
    now = second["known_at"].max()
    straight = hash_after(tmp_path / "sorted", [first, second], now)  # type: ignore[arg-type]
    assert hash_after(tmp_path / "shuffled", shuffled(first, second, Random(1)), now) == straight  # type: ignore[arg-type]
    assert hash_after(tmp_path / "lacks", blocks_of(first, 40), now) != straight  # type: ignore[arg-type]
