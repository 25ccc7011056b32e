"""What each part of a run must be: the fields of its JSON, the columns of its tables."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import polars as pl
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

if TYPE_CHECKING:
    from polars._typing import PolarsDataType

TIME = pl.Datetime("us", "UTC")
KEYS: dict[str, PolarsDataType] = {"symbol": pl.String, "time": TIME}
PRICES = ("open", "high", "low", "close")
TABLES: dict[str, dict[str, PolarsDataType]] = {
    "bars": {
        "symbol": pl.String, "asset_class": pl.String, "time": TIME, **dict.fromkeys(PRICES, pl.Float64),
        "volume": pl.Float64, "known_at": TIME, "segment": pl.Int32,
    },
    "forecasts": {
        **KEYS, "model": pl.String, "head": pl.String, "step": pl.Int32, "value": pl.Float64, "known_at": TIME,
    },
    "signals": {
        **KEYS, "z": pl.Float64, "signal": pl.Int8, "consensus": pl.Boolean, "strategy": pl.String,
        "evidence": pl.Float64, "reason": pl.String,
    },
    # positions of the strategies: by themselves, and where all symbols share the capital; what is held is `HOLDINGS`
    "weights": {**KEYS, "weight": pl.Float64, "book": pl.Float64},
    "equity": {"time": TIME, **dict.fromkeys(("gross", "net", "equity", "benchmark"), pl.Float64)},
}  # fmt: skip
"""Table -> its columns and their types. Those of the user in `bars` are further columns of Float64."""
HOLDINGS: dict[str, PolarsDataType] = {
    "session": pl.Date, **KEYS,
    **dict.fromkeys(("units", "held", "target", "core", "tilt", "share", "trade"), pl.Float64), "gate": pl.String,
}  # fmt: skip
"""Columns of what the book holds and their types, see `trading.book.holdings_of`."""
TABLES["book"] = HOLDINGS
MAY_BE_EMPTY = {"book": {"time"}, "bars": {"volume"}, "forecasts": {"known_at"}, "signals": {"z", "reason"}}
"""Table -> columns in which a value may be missing."""

Text = Annotated[str, StringConstraints(max_length=100_000)]
Name = Annotated[str, StringConstraints(max_length=1_000)]


def _refuse_no_moment(text: str) -> str:
    """Raises `ValueError` for a moment that is in no calendar, such as a 31st of February."""
    datetime.fromisoformat(text)
    return text


Moment = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
        r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?$"
    ),
    AfterValidator(_refuse_no_moment),
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**53)]
Number = float | None
Units = Annotated[float, Field(allow_inf_nan=False)]


class Schema(BaseModel):
    """Fields that are read by name must have their type; others may be there, since later versions add some."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


class Part(Schema):
    """An entry of the manifest."""

    sha256: Sha256
    bytes: Count


class Manifest(Schema):
    """`manifest.json`."""

    format: Name
    version: int
    gatecast: Name | None = None
    parts: Annotated[dict[Name, Part], Field(max_length=100_000)]


class Provenance(Schema):
    """`provenance.json`."""

    data_hash: Sha256
    settings_hash: Name
    symbols: list[Name] = []
    features: dict[Name, list[Name]] = {}
    refits: dict[Name, Count] = {}
    plugins: dict[Name, Name] = {}
    seconds: dict[Name, Number] = {}


class Verdict(Schema):
    """The verdict on a head or on the strategy."""

    verdict: Name
    sentence: Text
    effect: Number = None
    low: Number = None
    high: Number = None
    pvalue: Number = None
    n: Count | None = None
    trials: Count | None = None
    rival: Name | None = None


class Fold(Schema):
    """A refit of a class."""

    asset_class: Name
    refit: Moment
    train: Count
    validation: Count
    test: Count


class Refused(Schema):
    """A refit that the guard refused."""

    asset_class: Name
    model: Name
    refit: Moment
    reason: Text


class Score(Schema):
    """A row of the table of scores."""

    model: Name
    head: Name
    step: Count | None = None
    loss: Number = None
    gain: Number = None


class Summary(Schema):
    """The first lines."""

    headline: Text = ""
    subline: Text | None = None


class Delisting(Schema):
    """The end of a symbol."""

    symbol: Name
    kind: Name
    date: Moment
    known_at: Moment | None = None
    value: Number = None


class BookFinding(Schema):
    """What sizing found, and at how many closes."""

    kind: Name
    closes: Count
    newest: Text


class BookLine(Schema):
    """A line of the book."""

    line: Name
    title: Name
    reached: Number = None
    sessions: Count | None = None
    caps: dict[Name, Count] = {}
    findings: list[BookFinding] = []


class TailMethod(Schema):
    """One method's tails of the book."""

    title: Name
    loss: Number = None
    beyond: Count
    pvalue: Number = None
    exceedance: Number = None
    gain: Number = None
    low: Number = None
    high: Number = None


class TailYear(Schema):
    """The tails of one year of the book."""

    year: Count
    sessions: Count
    beyond: Count
    expected: Number = None
    pvalue: Number = None
    zone: Name = ""
    exceedance: Number = None


class BookTails(Schema):
    """The test of the tails of the book."""

    sentence: Text = ""
    methods: list[TailMethod] = []
    years: list[TailYear] = []


class BookGate(Schema):
    """The gate of control of the book."""

    sentence: Text = ""


class BookTail(Schema):
    """What a book loses in a bad session, or in several."""

    method: Name
    sessions: Count
    level: Number
    value_at_risk: Number = None
    shortfall: Number = None


class BookShare(Schema):
    """The risk of one symbol that a book holds."""

    symbol: Name
    weight: Number = None
    share: Number = None
    shortfall: Number = None


class BookStress(Schema):
    """What a book loses in a stress."""

    name: Name
    result: Number = None
    worst: Number = None
    words: Text = ""
    proxied: list[Name] = []
    left_out: list[Name] = []


class SmallestMove(Schema):
    """The likeliest moves by which a book loses so much."""

    loss: Number = None
    deviations: Number = None
    moves: dict[Name, Number] = {}


class BookToday(Schema):
    """What today's book may lose."""

    day: Moment
    line: Name | None = None
    gross: Number = None
    volatility: Number = None
    vectors: Count | None = None
    silent: dict[Name, Name] = {}
    tails: list[BookTail] = []
    symbols: list[BookShare] = []
    stress: list[BookStress] = []
    betas: dict[Name, Number] = {}
    smallest_move: SmallestMove = SmallestMove()
    days_to_sell: dict[Name, Number | list[Name]] = {}


class BookRisk(Schema):
    """The control of each line of the book, its tails, and what today's may lose."""

    lines: dict[Name, dict[str, Any]] = {}
    today: BookToday | None = None
    tails: BookTails = BookTails()
    gate: BookGate = BookGate()


class BookHeld(Schema):
    """What the book holds of a symbol at its newest session."""

    session: Moment
    symbol: Name
    held: Number = None
    target: Number = None
    trade: Number = None
    core: Number = None
    tilt: Number = None
    gate: Name = ""


class MonthsOfYear(Schema):
    """What a line earned in a calendar year and in each of its months."""

    year: Count
    months: list[Number] = Field(min_length=12, max_length=12)
    whole: Number = None


class Drawdown(Schema):
    """A drawdown of a line, and the days on which it began, was deepest and was over."""

    depth: Number = None
    first: Moment
    deepest: Moment
    back: Moment | None = None
    sessions: Count = 0


class LineCourse(Schema):
    """A line by months, its worst drawdowns, and its rolling Sharpe ratio."""

    months: list[MonthsOfYear] = []
    drawdowns: list[Drawdown] = []
    sharpe: list[Number] = []


class Course(Schema):
    """Lines of the book over time, see `metrics.periods.course`."""

    sessions: Count = 0
    window: Count = 0
    day: list[Moment] = []
    lines: dict[Name, LineCourse] = {}


class Book(Schema):
    """What the lines of the book held, earned and paid."""

    capital: Number = None
    target_volatility: Number = None
    cash_rate: Number = None
    benchmark_rate: Number = None
    left_out: dict[Name, Text] = {}
    lines: list[BookLine] = []
    risk: BookRisk | None = None
    holds: list[BookHeld] = []
    curve: dict[Name, list[Name | Number]] = {}
    course: Course | None = None


Rows = list[dict[str, Any]]


class Found(Schema):
    """A finding, see `evaluation.findings.Finding`."""

    kind: Name
    subject: Name
    weight: float
    share_of: Name
    sample: Count
    counted: Name
    sentence: Text
    advice: Text


class Survivorship(Schema):
    """What is known of who belonged to the universe when."""

    known: bool = False
    symbols: Count = 0
    sentence: Text = ""


class Scores(Schema):
    """`scores.json`: what other parts of the program read by name."""

    verdicts: dict[Name, Verdict]
    verdicts_without_default_ends: dict[Name, Verdict] = {}
    summary: Summary = Summary()
    folds: list[Fold] = []
    refused: list[Refused] = []
    models: list[Score] = []
    delistings: list[Delisting] = []
    survivorship: Survivorship = Survivorship()
    warnings: list[Text] = []
    findings: list[Found] = []
    holdout: dict[str, Any] | None = None
    trials: dict[str, Any] = {}
    many: dict[str, dict[str, Any]] = {}
    audit: dict[str, Any] | None = None
    backtest: dict[str, Any] = {}
    book: Book = Book()
    control: dict[str, Any] | None = None
    signals: dict[str, Any] = {}
    selection: dict[str, Any] = {}
    illusions: dict[str, Any] = {}
    names: dict[Name, Name] = {}
    fills: dict[Name, dict[str, Any]] = {}
    features_left_out: dict[Name, dict[str, Any]] = {}
    one_bar_later: Rows = []
    credit: Rows = []
    in_force: Rows = []
    rivals: Rows = []
    coverage: Rows = []
    years: Rows = []
    strategies: Rows = []
    windows: Rows = []


class Model(Schema):
    """`models/<asset class>/<model>.json`, or `refused/...`; its model checks the rest itself, see `from_state`."""

    kind: Name


class Issued(Schema):
    """`issued/<asset class>.json`."""

    refits: list[Moment] = []
    in_force: dict[Name, list[Name]] = {}
    rivals: dict[Name, list[Name]] = {}
    refused: dict[Name, dict[Moment, Text]] = {}


class Alarm(Schema):
    """An alarm of drift."""

    time: Moment
    asset_class: Name
    symbol: Name | None = None
    kind: Name
    statistic: float
    threshold: float
    sentence: Text


class Series(Schema):
    """A chart of returns on its way."""

    model: Annotated[list[float], Field(min_length=8, max_length=8)] | None
    refits: Count
    variance: float
    before: float
    total: float


class Watching(Schema):
    """What is needed to go on looking for alarms."""

    series: dict[Name, Series] = {}
    on: dict[Name, list[Name]] = {}
    last: dict[Name, Moment] = {}


class Alarms(Schema):
    """Alarms of the inputs of a class."""

    alarms: list[Alarm]
    refits: list[Moment]
    until: Moment | None
    state: Watching


class AlarmsOfClasses(Schema):
    """`alarms.json` of a model in a store: asset class -> alarms of the inputs."""

    classes: dict[Name, Alarms]


class Piece(Schema):
    """What the arrays of one piece of what was issued cannot say, see `store.issued`."""

    again: bool
    symbols: list[Name]
    refits: list[Moment]
    in_force: dict[Name, list[Name]]
    rivals: dict[Name, list[Name]]
    refused: dict[Name, dict[Moment, Text]]


class CarriedTable(Schema):
    """What the arrays of what a line of the book carries cannot say, see `store.carried`."""

    version: Annotated[int, Field(ge=1)] = 1
    names: list[Name]
    classes: list[Name]
    session: Moment
    due: list[Moment]
    changed: list[Moment] = []
    month: Annotated[int, Field(ge=-1, le=10**6)]
    flat_left: Count


class DeskTable(Schema):
    """What the arrays of a desk cannot say, see `store.desks`."""

    names: list[Name]
    classes: list[Name]
    currencies: list[Name]
    session: Moment
    flat_left: Count
    stress: bool
    size: dict[Name, Any]
    money: dict[Name, Any]
    orders: dict[Name, Any]


class OrderRow(Schema):
    """An order, see `trading.orders.Order`."""

    order_id: Name
    symbol: Name
    side: Literal["buy", "sell"]
    units: Units
    limit_price: Units
    send_before: Moment
    held: Units
    open_units: Units
    target_units: Units
    value: Units
    cost: Units
    reason: Text = ""


class BreachRow(Schema):
    """A limit that orders exceed, see `trading.orders.Breach`."""

    name: Name
    symbol: Name
    soft: bool
    sentence: Text


class OrdersFile(Schema):
    """Orders of a session, and what they were made of, see `live.orders`."""

    account: Name
    session: Moment
    currency: Name
    capital: Units
    as_of: Moment
    positions: dict[Name, Units]
    splits_until: Moment | None = None
    open: dict[Name, Any]
    orders: list[OrderRow]
    breaches: list[BreachRow] = []
    halt: Count | None = None


class FillRow(Schema):
    """A fill, see `live.positions.Fill`."""

    fill_id: Name
    order_id: Name
    symbol: Name
    side: Literal["buy", "sell"]
    units: Units
    price: Units
    time: Moment


class FillsFile(Schema):
    """Fills that came at once."""

    fills: list[FillRow]


class PositionsFile(Schema):
    """What an account held at a moment."""

    units: dict[Name, Units]
    as_of: Moment
    splits_until: Moment | None = None


class SessionOfBook(Schema):
    """Figures of the book at a session.

    Money is in the book's currency; `gross`, `net` are shares of equity; volatilities are of a year. `findings`: see
    `trading.sizing.Finding`; `kinds`: the kind of each. `spiked`: the volatility with each class falling together.
    `volatility`: of the target; `held_volatility`: of what is held, None in records of earlier versions.
    `earned`, `expected`, `level`: see `trading.line.Step`.
    """

    session: Moment
    equity: Units
    cash: Number = None
    gross: Number = None
    net: Number = None
    volatility: Number = None
    held_volatility: Number = None
    spiked: Number = None
    reached: bool = False
    earned: Number = None
    expected: Number = None
    level: Number = None
    findings: list[Text]
    kinds: list[Name] = []


class BookOfRecord(SessionOfBook):
    """What a record says of the book at its newest session, with the newest close that was seen.

    `caught_up`: figures of the sessions before it that were decided together with it, in order; None in records of
    earlier versions, whose figures are then of all these sessions as of one.
    """

    close: Moment
    target_volatility: Number = None
    currency: Name = ""
    caught_up: list[SessionOfBook] | None = None


def fault_of(schema: type[Schema], value: Any) -> str:
    """What is wrong with a value that must be of a schema, in words; "" where nothing is.

    >>> fault_of(Model, {"kind": 3})
    "its 'kind': Input should be a valid string"
    """
    try:
        schema.model_validate(value)
    except ValidationError as error:
        return said_of(error)
    return ""


def said_of(error: ValidationError) -> str:
    """The first thing that does not fit a schema, in words."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(str(part)[:40] for part in first["loc"][:6])
    return f"its {place!r}: {first['msg'][:200]}" if place else first["msg"][:200]
