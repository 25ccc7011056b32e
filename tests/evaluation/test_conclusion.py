"""A verdict in words says "not known" where a number is not, and never a number that is none."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gatecast.evaluation.conclusion import conclude, in_percent
from gatecast.evaluation.verdict import Verdict

NO_NUMBER = re.compile(r"\b(nan|inf|None)\b", re.IGNORECASE)
ANY = st.sampled_from([math.nan, -0.3, -1e-5, 0.0, 1e-5, 0.02, 3.0])
PVALUE = st.sampled_from([math.nan, 0.001, 0.04, 0.7])
OF_ALL = (
    "effect", "low", "high", "break_even", "detectable", "best_days", "without_best_year", "rival_loss", "plain_gain",
    "plain_low", "plain_high", "simple_gain", "simple_low", "simple_high",
)  # fmt: skip


def verdict(**more: object) -> Verdict:
    """A verdict before it is concluded, with what is given."""
    found = Verdict(
        "volatility", "", 0.02, -0.01, 0.05, "test", 1.0, 0.2, 0.3, 400, 2_000, 0.0, 2, 5, "rival", "", "",
        pvalue_trials=0.3, detectable=0.1, rival_loss=1.0, plain="har", simple="har_smooth", simpler="constant",
    )  # fmt: skip
    return replace(found, **more)  # type: ignore[arg-type]


@given(
    st.fixed_dictionaries(dict.fromkeys(OF_ALL, ANY)), st.tuples(PVALUE, PVALUE, PVALUE), st.tuples(PVALUE, PVALUE),
    st.booleans(), st.sampled_from(["volatility", "strategy", "return"]),
)  # fmt: skip
def test_no_sentence_has_a_number_that_is_none(
    numbers: dict[str, float], pvalues: tuple[float, ...], signal: tuple[float, float], survives: bool, head: str
) -> None:
    named = dict(zip(("pvalue", "pvalue_holm", "pvalue_trials"), pvalues, strict=True))
    said = conclude(verdict(**numbers, **named, survives=survives, best_year=2008, head=head), signal).sentence
    assert not NO_NUMBER.search(said), said


def test_an_interval_that_is_not_known_is_said_with_its_reason() -> None:
    same = conclude(verdict(simple_gain=0.0, simple_low=math.nan, simple_high=math.nan)).sentence
    assert same.endswith("the HAR of smoothed variances: not known, as both have the same loss on each day.")
    few = in_percent(0.02, math.nan, math.nan)
    assert few == "+2.0% (interval not known: too few days, or the same difference on each)"
