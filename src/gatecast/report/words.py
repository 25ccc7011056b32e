"""Values -> text: numbers, percentages, p-values, and the titles of models, heads, strategies and measures."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from html import escape
from typing import Any, TypeGuard

from gatecast.evaluation.paired import LEVEL
from gatecast.forecasting.panel import model_phrase, model_title
from gatecast.notebook import trade_text
from gatecast.trading.strategies import strategy_titles

MISSING = "–"

Names = Mapping[str, str]
"""Model -> title, of a run."""

WORDS = {
    **strategy_titles(),
    "risk": "risk of the book",
    "sharpe": "Sharpe ratio",
    "sortino": "Sortino ratio",
    "calmar": "Calmar ratio",
    "comp": "total return",
    "cagr": "growth a year (CAGR)",
    "max_drawdown": "maximum drawdown",
    "longest_drawdown": "longest drawdown, in periods",
    "value_at_risk": "value at risk, 95 %",
    "cvar": "expected shortfall, 95 %",
    "best": "best period",
    "worst": "worst period",
    "avg_win": "average win",
    "avg_loss": "average loss",
    "consecutive_wins": "most wins in a row",
    "consecutive_losses": "most losses in a row",
    "break_even_cost_bps": "break-even cost, bps per side",
    "cost_total": "total costs",
    "turnover_per_year": "turnover a year, one-sided, in portfolios",
    "average_exposure": "average exposure, of capital",
    "periods_per_year": "sessions a year",
    "diebold_mariano": "p, Diebold-Mariano with HLN",
    "non_overlapping": "p, days without overlap",
    "clark_west": "p, Clark-West against no change",
    "least_certain": "fixed forecast that is beaten least surely",
    "most_in_force": "most frequent rival",
    "rival_loss": "mean loss of the rival in force",
    "plain": "plain yardstick",
    "plain_gain": "gain over the plain yardstick",
    "plain_low": "its interval from",
    "plain_high": "its interval to",
    "simple": "best simple model with hindsight",
    "simple_gain": "gain over that model",
    "simple_low": "that interval from",
    "simple_high": "that interval to",
    "ties": "not scored: price unchanged",
    "capped": "losses capped at 25 units",
    "pvalue_trials": "p, corrected",
    "pvalue_watched": "p, sequential",
    "n_effective": "independent days",
    "n_break_even": "days to detect the break-even gain",
    "n_needed": "days needed at this gain",
    "probabilistic_sharpe": "probabilistic Sharpe ratio",
    "deflated_sharpe": "deflated Sharpe ratio",
    "min_track_record_bars": "minimum track record, bars",
}

_SHARES = re.compile(
    "cagr|return|total|(?<!longest_)drawdown|volatil|rate|share|exposure|hit|cvar|var$|value_at_risk|best|worst|cost_total"
    "|ytd|^cost$|certainty|comp$|kelly|ulcer|(?<!consecutive_)win|avg_loss|time_in_market|turnover"
)


def named(name: Any, names: Names | None = None) -> str:
    """A model, head, strategy or measure in words.

    `names`: model -> title of the run; a model that it lacks has its title in gatecast's panel. A strategy that follows
    a model's signal is named after the model by `strategy_titles`, given the run's settings.

    >>> named("lstm"), named("mean_reversion"), named("mine", {"mine": "forest of mine"})
    ('LSTM', 'mean reversion', 'forest of mine')
    """
    return WORDS.get(str(name)) or (names or {}).get(str(name)) or model_title(str(name))


def titled(name: Any, names: Names | None = None) -> str:
    """`named`, as a sentence begins.

    >>> titled("forest"), titled("log-HAR")
    ('Random forest', 'Log-HAR')
    """
    return begun(named(name, names))


def phrased(name: Any, names: Names | None = None) -> str:
    """A model's title within a sentence; `names` as in `named`.

    >>> phrased("har"), phrased("mine", {"mine": "forest of mine"})
    ('the log-HAR', 'the forest of mine')
    """
    own = (names or {}).get(str(name))
    return f"the {own}" if own and own != model_title(str(name)) else model_phrase(str(name))


def begun(text: Any) -> str:
    """The text as a sentence begins, otherwise as it is.

    >>> begun("void: the column my_x is the answer")
    'Void: the column my_x is the answer'
    """
    return str(text)[:1].upper() + str(text)[1:]


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number.

    >>> is_number(1), is_number(None), is_number("1"), is_number(float("nan")), is_number(True)
    (True, False, False, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any, digits: int = 3, sign: bool = False) -> str:
    """A number with so many significant digits, a real minus and thousands set apart.

    >>> number(-0.012345), number(1234567.0), number(0.5, sign=True), number(None)
    ('−0.0123', '1,234,567', '+0.500', '–')
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return MISSING if value is None else str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        text = f"{value:+,.0f}" if sign else f"{value:,.0f}"
    elif value != 0 and abs(value) < 1e-4:
        text = f"{value:+.1e}" if sign else f"{value:.1e}"
    else:
        places = digits if value == 0 else min(4, max(0, digits - 1 - math.floor(math.log10(abs(value)))))
        text = f"{value:+.{places}f}" if sign else f"{value:.{places}f}"
    return text.replace("-", "−")


def units(value: Any) -> str:
    """Units of a symbol: whole ones without decimals, parts of one with three digits.

    >>> units(12.0), units(-1234.0), units(0.5), units(None)
    ('12', '−1,234', '0.500', '–')
    """
    return number(int(value) if isinstance(value, float) and value.is_integer() else value)


def trade(value: Any) -> str:
    """A trade in units, with its side; a dash where there is none.

    >>> trade(2253.0), trade(-0.5), trade(0.0), trade(None)
    ('buy 2,253', 'sell 0.500', '–', '–')
    """
    return trade_text(value if is_number(value) else None, MISSING)


def between(low: Any, high: Any, digits: int = 1) -> str:
    """An interval of shares as percentages; the percent sign stays on the line of its number.

    >>> between(-0.021, 0.0204).replace("\N{NO-BREAK SPACE}", "_"), between(0.1, None)
    ('−2.1 to +2.0_%', '–')
    """
    if not (is_number(low) and is_number(high)):
        return MISSING
    least, most = (percent(one, digits, True).removesuffix(" %") for one in (low, high))
    return f"{least} to {most}\N{NO-BREAK SPACE}%"


def price(value: Any, least: Any) -> str:
    """A price with as many decimals as the smallest of its column, `least`, needs for four digits; two from 10 on.

    >>> price(52.78, 52.78), price(137.12, 52.78), price(1.08345, 1.08345), price(4321.0, 1.08), price(None, 5.0)
    ('52.78', '137.12', '1.083', '4,321.000', '–')
    """
    if not is_number(value) or not is_number(least) or least <= 0:
        return number(value, 5)
    places = min(8, max(2, 3 - math.floor(math.log10(least))))
    return f"{value:,.{places}f}"


def decimals(value: Any, digits: int = 2) -> str:
    """A number with so many decimals, the same in a whole column.

    >>> decimals(0.4321), decimals(-0.0784), decimals(None), decimals(-0.001)
    ('0.43', '−0.08', '–', '0.00')
    """
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−") if is_number(value) else MISSING


def percent(value: Any, digits: int = 1, sign: bool = False) -> str:
    """A share as a percentage; what rounds to nothing has no sign.

    >>> percent(0.1234), percent(-0.5, 0), percent(-0.00001, sign=True), percent(None)
    ('12.3 %', '−50 %', '0.0 %', '–')
    """
    if not isinstance(value, int | float):
        return MISSING
    if round(100 * value, digits) == 0:
        value, sign = 0.0, False
    return f"{100 * value:{'+' if sign else ''}.{digits}f} %".replace("-", "−")


def typeset(sentence: str) -> str:
    """A sentence of the scores, as plain text has it -> with the minus and the percent sign of the page's numbers.

    A percent sign stays on the line of its number.

    >>> typeset("R² -0.007% (-0.04% to +0.02%) since 2001-02-03, p 1e-05").replace("\N{NO-BREAK SPACE}", "_")
    'R² −0.007_% (−0.04_% to +0.02_%) since 2001-02-03, p 1e-05'
    """
    return re.sub(r"(?<=\d) ?%", "\N{NO-BREAK SPACE}%", re.sub(r"(?<![\w-])-(?=\d)", "−", str(sentence)))


def whole(sentence: str) -> str:
    """A sentence as markup, in which a date or an option of a command stays on one line.

    >>> whole("gatecast update --now 2017-10-02 <FILE>")
    'gatecast update <span class="whole">--now</span> <span class="whole">2017-10-02</span> &lt;FILE&gt;'
    """
    one = r"(?<![\w-])(\d{4}-\d\d-\d\d|--[a-z][a-z-]*)(?![\w-])"
    return re.sub(one, r'<span class="whole">\1</span>', escape(sentence))


def coded(sentence: str) -> str:
    """`whole` of a sentence, in which what stands between backticks is shown as code.

    >>> coded("`gatecast today` & more")
    '<code>gatecast today</code> &amp; more'
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", whole(sentence))


def measured(value: Any, name: str) -> str:
    """A value in the unit that its name implies: shares as percentages, counts whole, everything else as a number.

    >>> measured(0.0123, "cvar"), measured(5.0, "consecutive_wins"), measured(1.25, "sharpe"), measured(0.004, "cost")
    ('1.2 %', '5', '1.25', '0.4 %')
    """
    if is_number(value) and name.startswith(("consecutive_", "longest_")):
        return number(int(value))
    if isinstance(value, float) and _SHARES.search(name.lower()) and "turnover" not in name and "bps" not in name:
        return percent(value)
    if isinstance(value, int | float):
        return number(value, 3 if abs(value) >= 1 else 2)
    return MISSING if value is None else str(value)


def gain(value: Any, unit: Any, width: Any = None) -> str:
    """A verdict's effect: a percentage where its unit is a share or a yearly return.

    `width`: of its interval, which decides how many digits mean something.

    >>> gain(0.0214, "share of the rival's loss"), gain(0.0214, "share", width=0.3), gain(0.0214, "bits")
    ('+2.14 %', '+2.1 %', '+0.0214')
    """
    if not re.search("share|alpha", str(unit)):
        return number(value, sign=True)
    digits = 2 if not is_number(width) else 1 if width >= 0.02 else 2 if width >= 0.002 else 3
    return percent(value, digits, sign=True)


def p_value(pvalue: Any) -> str:
    """A p-value with two digits, down to 0.0001.

    >>> p_value(0.31), p_value(0.0123), p_value(0.0004567), p_value(1e-9), p_value(1.0), p_value(None)
    ('0.31', '0.012', '0.0005', 'below 0.0001', '1.00', '–')
    """
    if not is_number(pvalue):
        return MISSING
    if pvalue < 1e-4:
        return "below 0.0001"
    return f"{pvalue:.{2 if pvalue >= 0.095 else 3 if pvalue >= 0.0095 else 4}f}"


def counted(count: Any) -> str:
    """A count to two digits beyond ten thousand or when it is an estimate, millions in words.

    >>> counted(353), counted(2189.6), counted(43983), counted(54836103), counted(8e9)
    ('353', '2,200', '44,000', '55 million', 'over a billion')
    """
    if not is_number(count):
        return MISSING if count is None else str(count)
    if isinstance(count, float) or count >= 10_000:
        count = float(f"{count:.2g}") if abs(count) >= 100 else round(count)
    if count >= 1e9:
        return "over a billion"
    return f"{count:,.0f}" if count < 1e6 else f"{count / 1e6:,.{0 if count >= 1e7 else 1}f} million"


def decided_by(verdict: Mapping[str, Any]) -> str:
    """The p-value that a verdict was decided by; where its interval alone would have said otherwise, that, too.

    >>> decided_by({"low": -0.01, "pvalue_trials": 0.41}), decided_by({"low": 0.01, "pvalue_trials": 0.003})
    ('p 0.41, corrected.', 'p 0.0030, corrected.')
    >>> decided_by({"low": 0.013, "pvalue_trials": 0.1656})
    'The interval is above 0, but p, corrected for the heads and trials, is 0.17: evidence takes less than 0.05.'
    >>> decided_by({"low": 0.01, "pvalue_trials": None})
    ''
    """
    p, low = verdict.get("pvalue_trials"), verdict.get("low")
    if not is_number(p):
        return ""
    if not is_number(low) or low <= 0 or p < LEVEL:
        return f"p {p_value(p)}, corrected."
    said = f"The interval is above 0, but p, corrected for the heads and trials, is {p_value(p)}"
    return f"{said}: evidence takes less than {LEVEL:g}."


def moment(value: Any) -> Any:
    """A moment to the minute.

    >>> moment("2001-01-02T21:00:00.000000"), moment(3)
    ('2001-01-02 21:00', 3)
    """
    return value[:16].replace("T", " ") if re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d", str(value)) else value


def tone(verdict: Any) -> str:
    """The class of a verdict's colour: skill, nothing, wrong (too good, or void) or unclear, which any other word is.

    >>> [tone(verdict) for verdict in ("evidence of skill", "too good: look for a leak", "void: a leak", "new word")]
    ['skill', 'wrong', 'wrong', 'unclear']
    """
    text = str(verdict)
    if text.startswith(("too good", "void")):
        return "wrong"
    return {"evidence of skill": "skill", "nothing worth trading": "nothing"}.get(text, "unclear")
