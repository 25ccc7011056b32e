"""Purge and embargo of labels on intervals: known answers, and the rule itself on random labels."""

from __future__ import annotations

import numpy as np
import pytest

from gatecast.forecasting.crossval import combinatorial_folds, paths, purged_folds, purged_train_rows

DAY = np.arange(10)


def test_ten_events_of_three_days() -> None:
    folds = list(purged_folds(DAY, DAY + 2, 2))
    assert [train.tolist() for train, _ in folds] == [[7, 8, 9], [0, 1, 2]]
    assert [test.tolist() for _, test in folds] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_a_horizon_of_five_on_a_hundred_bars() -> None:
    bar = np.arange(100)
    start, end = bar + 1, bar + 5  # (t, t + 5]
    middle = purged_train_rows(start, end, range(40, 60))
    assert (len(middle), middle[middle < 40].max()) == (72, 35)
    late = purged_train_rows(start, end, range(80, 100))
    assert (len(late), late.max()) == (76, 75)


@pytest.mark.parametrize(("groups", "chosen", "splits", "whole"), [(6, 2, 15, 5), (10, 2, 45, 9)])
def test_combinations_and_their_paths(groups: int, chosen: int, splits: int, whole: int) -> None:
    bar = np.arange(120)
    folds = list(combinatorial_folds(bar, bar, groups, chosen))
    assert (len(folds), paths(groups, chosen)) == (splits, whole)
    tested = np.bincount(np.concatenate([test for _, test in folds]))
    assert (tested == whole).all()  # every row is tested once a path


def test_blocks_apart_are_purged_each_by_itself() -> None:
    bar = np.arange(100)
    train = purged_train_rows(bar, bar + 1, [*range(10, 20), *range(60, 70)], embargo=3)
    assert set(range(24, 59)) <= set(train)  # between the blocks, where their hull would leave nothing
    assert not {9, 20, 21, 22, 23, 59, 70, 73} & set(train)
    assert {8, 24, 58, 74} <= set(train)


def test_no_train_label_shares_a_moment_with_a_test_label() -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        n = int(random.integers(5, 60))
        start = np.sort(random.integers(0, 80, n))
        end = start + random.integers(0, 12, n)
        test = random.choice(n, int(random.integers(1, n)), replace=False)
        train = purged_train_rows(start, end, test)
        for i in range(n):
            touches = any(start[i] <= end[j] and end[i] >= start[j] for j in test)
            assert (i in train) == (not touches and i not in test)


def test_what_cannot_be_purged_is_refused() -> None:
    with pytest.raises(ValueError, match="no label ends"):
        purged_train_rows(DAY, None, range(5))
    with pytest.raises(ValueError, match="later ends"):
        purged_train_rows(DAY, DAY - 1, range(5))
    with pytest.raises(ValueError, match="there are 10"):
        purged_train_rows(DAY, DAY + 1, [10])
    with pytest.raises(ValueError, match="11 blocks of 10 rows"):
        next(purged_folds(DAY, DAY, 11))
    with pytest.raises(ValueError, match="test_groups"):
        next(combinatorial_folds(DAY, DAY, 5, 5))


def test_times_are_purged_as_bars_are_and_answers_that_are_never_known_are_left_out() -> None:
    day = np.datetime64("2020-01-01") + DAY
    end = day + 2
    assert purged_train_rows(day, end, range(5)).tolist() == [7, 8, 9]
    assert purged_train_rows(day, end, range(5), np.timedelta64(2, "D")).tolist() == [9]
    end[9] = np.datetime64("NaT")
    assert purged_train_rows(day, end, range(5)).tolist() == [7, 8]
    assert purged_train_rows(day, end, [9]).tolist() == [0, 1, 2, 3, 4, 5, 6]
