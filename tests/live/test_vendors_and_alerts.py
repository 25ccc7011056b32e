"""Vendors that are watched, alerts that are sent, and secrets that are in no file and no output."""

from __future__ import annotations

import contextlib
import json
import shutil
import socketserver
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pandas
import polars as pl
import pytest

from gatecast.cli.unforeseen import sentence_of
from gatecast.errors import BarsError, SettingsError, StoreError
from gatecast.live import Fetched, Round, fetch, update, watch
from gatecast.live.alerts import each_of, mail, webhook
from gatecast.market import read_bars
from gatecast.market.vendors import VENDORS, Vendor
from gatecast.store import Store
from tests.live.conftest import HOUR, Command, files, settings
from tests.live.test_watch import dropped, looked

Odd = list[Callable[[pl.DataFrame], Any]]
CANARY = "c4n4ry-t0ken"
YFINANCE = """
import json, urllib.request
import pandas

class Ticker:
    def __init__(self, symbol):
        self.symbol = symbol

    def history(self, *, interval, auto_adjust, actions, timeout, raise_errors, start=None, end=None, period=None):
        assert (interval, auto_adjust, actions, raise_errors) == ("1d", False, False, True)
        address = f"{ADDRESS}/chart/{self.symbol}?start={start}&crumb={CANARY}"
        try:
            with urllib.request.urlopen(address, timeout=timeout) as answer:
                rows = json.load(answer)
        except OSError as error:
            raise RuntimeError(f"HTTPError of {address}: {error}") from error
        names = ("Open", "High", "Low", "Close", "Volume")
        index = pandas.DatetimeIndex([row[0] for row in rows]).tz_localize("America/New_York")
        table = pandas.DataFrame([row[1:] for row in rows], index=index, columns=names)
        return table.assign(**{"Adj Close": table["Close"]})
"""
CCXT = """
import json, urllib.request

class BaseError(Exception):
    pass

exchanges = ["kraken"]

class kraken:
    timeframes = {"1d": "1440"}

    def __init__(self, config):
        self.config = config

    def fetch_ohlcv(self, symbol, timeframe, since):
        with urllib.request.urlopen(f"{ADDRESS}/ohlcv/{symbol}?since={since}") as answer:
            return json.load(answer)
"""


@dataclass
class Exchange:
    """A server on this machine that answers as vendors do: `answers`, by symbol; what was asked; None: it is broken."""

    address: str = ""
    answers: dict[str, list[list[Any]]] | None = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    posted: list[Any] = field(default_factory=list)


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    found = Exchange()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            where = urlparse(self.path)
            symbol, given = where.path.split("/", 2)[2], parse_qs(where.query)
            since = (given.get("since") or given.get("start") or [""])[0]
            found.asked.append((symbol, since))
            rows = None if found.answers is None else found.answers.get(symbol, [])
            if rows is not None and "since" in given:
                rows = [row for row in rows if row[0] >= int(since)][:50]
            self.send_response(500 if rows is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(rows).encode())

        def do_POST(self) -> None:
            found.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204 if found.answers is not None else 403)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with served(HTTPServer(("127.0.0.1", 0), Handler)) as address:
        found.address = f"http://{address}"
        yield found


class served:
    """A server of this process, in a thread of its own, for as long as it is needed: its address."""

    def __init__(self, server: socketserver.TCPServer) -> None:
        self.server = server
        self.thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        return "127.0.0.1:{1}".format(*self.server.server_address)

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def packages(exchange: Exchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stand-ins for the packages of vendors, which ask the server of this process."""
    site = tmp_path / "site"
    site.mkdir()
    for name, code in (("yfinance", YFINANCE), ("ccxt", CCXT)):
        (site / f"{name}.py").write_text(f"ADDRESS = {exchange.address!r}\nCANARY = {CANARY!r}\n{code}")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(site))
    yield
    for name in ("yfinance", "ccxt"):
        sys.modules.pop(name, None)


def of_yahoo(bars: pl.DataFrame, *, factor: float = 1.0) -> dict[str, list[list[Any]]]:
    """Bars as the vendor answers: the day of each, prices, volume."""
    found: dict[str, list[list[Any]]] = {}
    for row in bars.iter_rows(named=True):
        prices = [row[name] * factor for name in ("open", "high", "low", "close")]
        found.setdefault(row["symbol"], []).append([f"{row['time']:%Y-%m-%d}", *prices, row["volume"]])
    return found


Answers = Callable[..., dict[str, list[list[Any]]]]


@pytest.fixture
def until(bars: pl.DataFrame, closes: list[datetime]) -> Answers:
    """The bars from the 40 closes before a number up to it, and maybe one that has not closed yet, as answered."""

    def answers(number: int, *, unfinished: int = 0, factor: float = 1.0) -> dict[str, list[list[Any]]]:
        own = bars.filter(pl.col("time").is_between(closes[number - 40], closes[number + unfinished]))
        return of_yahoo(own.drop("x"), factor=factor)

    return answers


@pytest.fixture
def plain(bars: pl.DataFrame, closes: list[datetime], month: int, tmp_path: Path) -> Path:
    """A store of a few of the same bars, too few for a model, without the user's column, which no vendor has."""
    now = closes[month - 4] + HOUR
    own = bars.drop("x").filter(pl.col("time").is_between(closes[month - 64], now))
    update(tmp_path / "plain", own, now=now, experiment=settings(features=("ret_log_1",)))
    return tmp_path / "plain"


def test_a_vendor_is_asked_when_a_bar_should_be_there_and_not_before(
    packages: None, exchange: Exchange, until: Answers, plain: Path, closes: list[datetime], month: int
) -> None:
    store = plain
    exchange.answers = until(month - 3, unfinished=1)
    assert looked(store, "yfinance", closes[month - 4] + HOUR).files == ()
    assert exchange.asked == []
    first = looked(store, "yfinance", closes[month - 3] + HOUR)
    assert first.updated is not None
    assert {**first.updated.counts, "repeated": 0} == {
        "new": 2, "late": 0, "corrected": 0, "unfinished": 0, "repeated": 0,
    }  # fmt: skip
    assert {symbol for symbol, _ in exchange.asked} == {"B1_0", "B1_1"}
    since = (closes[month - 4] - timedelta(days=30)).date()
    assert {start for _, start in exchange.asked} == {str(since)}
    exchange.asked.clear()
    assert looked(store, "yfinance", closes[month - 3] + 2 * HOUR).files == ()
    assert exchange.asked == []
    exchange.answers = until(month - 2, factor=0.5)
    halved = looked(store, "yfinance", closes[month - 2] + HOUR)
    assert halved.updated is not None
    assert "rescaled" in {problem.kind for problem in halved.updated.problems}
    assert Store.open(store).check() == []


def test_a_vendor_that_is_broken_is_alerted_once_and_asked_again_after_a_while(
    packages: None, exchange: Exchange, until: Answers, plain: Path, closes: list[datetime], month: int
) -> None:
    exchange.answers, begin = None, closes[month - 3] + HOUR
    rounds: list[Round] = []
    numbers = iter(range(6))
    heard: list[tuple[str, bool]] = []

    def clock() -> datetime:
        number = next(numbers)
        if number == 4:
            exchange.answers = until(month - 3)
        return begin + timedelta(minutes=5 * number)

    def alert(name: str, text: str, begins: bool) -> None:
        heard.append((name, begins))

    watch(
        plain, "yfinance", rounds=6, seconds=0, clock=clock, on_round=rounds.append, alert=alert,
        options={"asset_class": "index", "stamp": "close"},
    )  # fmt: skip
    assert [number for number, one in enumerate(rounds) if one.refused] == [0, 2]
    assert "yfinance has no bar of any symbol ('B1_0': RuntimeError" in rounds[0].refused[0]
    assert [begins for name, begins in heard if name == "refused file"] == [True, False]
    assert CANARY not in "".join(text for one in rounds for text in (*one.refused, *one.alerted))


def test_a_store_is_made_from_an_exchange_page_by_page(packages: None, exchange: Exchange, tmp_path: Path) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    days = [start + timedelta(days=number) for number in range(130)]
    exchange.answers = {
        "BTC/USD": [
            [int(day.timestamp() * 1000), 100.0, 103.0, 98.0, 101.0 + number % 3, 5.0]
            for number, day in enumerate(days)
        ]
    }
    found: list[Round] = []
    watch(
        tmp_path / "store", "ccxt:kraken", rounds=1, clock=lambda: days[-1] + 5 * HOUR, on_round=found.append,
        options={"symbols": ["BTC/USD"]},
    )  # fmt: skip
    assert found[0].updated is not None
    opened = Store.open(tmp_path / "store")
    bars = opened.bars.as_of(days[-1] + 5 * HOUR)
    assert dict(opened.state.symbols) == {"BTC/USD": "crypto"}
    assert (len(bars), bars["time"].max()) == (129, days[-1])
    assert len(exchange.asked) == 4
    with pytest.raises(BarsError, match="Did you mean 'kraken'"):
        read_bars("ccxt:krakn", symbols=["BTC/USD"])


def test_fetch_makes_a_store_and_goes_on_where_it_was_stopped(
    packages: None, exchange: Exchange, until: Answers, bars: pl.DataFrame, closes: list[datetime], month: int,
    tmp_path: Path, gatecast: Command,
) -> None:  # fmt: skip
    store, words = tmp_path / "store", ("--asset-class", "index", "--stamp", "close", "--pause", 0, "--json")
    answers = until(month - 3)
    exchange.answers = {"B1_0": answers["B1_0"]}
    now = ("--now", (closes[month - 3] + HOUR).isoformat())
    first = gatecast("fetch", "B1_0", "B1_1", "--into", store, "--since", "1999", *now, *words)
    assert first.status == 1
    assert list(first.json["missing"]) == ["B1_1"]
    assert "no bar of any symbol" in first.json["missing"]["B1_1"]
    assert first.json["symbols"]["B1_0"]["rows"] == len(answers["B1_0"])
    assert ("B1_0", "1999-01-01") in exchange.asked
    exchange.answers, count = until(month - 2), len(exchange.asked)
    later = ("--now", (closes[month - 2] + HOUR).isoformat())
    second = gatecast("fetch", "B1_0", "B1_1", "--into", store, "--since", "1999", *later, *words)
    assert second.status == 0
    asked = dict(exchange.asked[count:])
    assert asked == {"B1_0": str((closes[month - 3] - timedelta(days=30)).date()), "B1_1": "1999-01-01"}
    stored = Store.open(store).bars.as_of(closes[month - 2] + HOUR)
    assert sorted(stored["symbol"].unique()) == ["B1_0", "B1_1"]
    assert stored["time"].max() == closes[month - 2]
    assert not store.with_name("store.fetched").exists()


@pytest.mark.parametrize("fault", ["interrupted", "full"])
def test_fetch_keeps_what_came_when_it_is_stopped_and_asks_for_it_no_more(
    fault: str, packages: None, exchange: Exchange, until: Answers, closes: list[datetime], month: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    exchange.answers = until(month - 3)

    def again() -> Fetched:
        return fetch(
            ["B1_0", "B1_1"], tmp_path / "store", pause_seconds=0, now=closes[month - 3] + HOUR,
            options={"stamp": "close", "asset_class": "index"},
        )  # fmt: skip

    raised = KeyboardInterrupt() if fault == "interrupted" else StoreError("no room")

    def stopped(*_: object, **__: object) -> None:
        raise raised

    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["gatecast.live.fetch"], "update", stopped)
        with pytest.raises(type(raised)):
            again()
    assert len(list((tmp_path / "store.fetched").iterdir())) == 2
    count = len(exchange.asked)
    done = again()
    assert len(exchange.asked) == count
    assert {one["kept"] for one in done.symbols.values()} == {True}
    assert not (tmp_path / "store.fetched").exists()


def test_fetch_asks_again_for_what_a_store_refused(
    packages: None, exchange: Exchange, until: Answers, plain: Path, closes: list[datetime], month: int,
    gatecast: Command,
) -> None:  # fmt: skip
    words = (
        "fetch",
        "B1_0",
        "B1_1",
        "--into",
        plain,
        "--pause",
        0,
        "--stamp",
        "close",
        "--asset-class",
        "index",
        "--json",
    )
    words = (*words, "--now", (closes[month - 3] + HOUR).isoformat())
    right = until(month - 3)
    exchange.answers = {name: [[*row[:2], -1.0, *row[3:]] for row in rows] for name, rows in right.items()}
    before = files(plain)
    refused = gatecast(*words)
    assert refused.status == 2
    assert files(plain).keys() == before.keys()
    assert not plain.with_name("plain.fetched").exists()
    exchange.answers = {**right, "B1_1": exchange.answers["B1_1"]}
    half = gatecast(*words)
    assert half.status == 1
    assert {name: one["kept"] for name, one in half.json["symbols"].items()} == {"B1_0": False}
    assert list(half.json["missing"]) == ["B1_1"]
    exchange.answers = right
    assert gatecast(*words).json["missing"] == {}


@pytest.mark.parametrize("what", ["a file", "a run", "a full folder", "/"])
def test_fetch_asks_nothing_for_a_place_where_no_store_can_be(
    what: str, packages: None, exchange: Exchange, tmp_path: Path, gatecast: Command
) -> None:
    place = Path("/") if what == "/" else tmp_path / "here" / "place"
    if what != "/":
        place.parent.mkdir()
        file = place if what == "a file" else place / ("scores.json" if what == "a run" else "mine.txt")
        file.parent.mkdir(exist_ok=True)
        file.write_text("{}")
    answer = gatecast("fetch", "SPY", "--into", place, "--pause", 0)
    assert (answer.status, "Traceback" in answer.err, exchange.asked) == (2, False, [])
    assert what == "/" or list(place.parent.iterdir()) == [place]


class Mute(Exception):
    """An error that cannot be told."""

    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.fixture
def odd() -> Iterator[Odd]:
    """A vendor of one's own that gives for A what it is told to make of the right table, and for others that table."""
    days = [datetime(2024, 1, 1) + timedelta(days=number) for number in range(30)]
    prices = pl.Series([100.0 + number % 3 for number in range(30)])
    columns = dict.fromkeys(("open", "high", "low", "close"), prices)
    makes: list[Callable[[pl.DataFrame], Any]] = []

    class Own(Vendor):
        kind = "odd"

        def fetch(self, request: str, *, symbols: Any, start: Any, end: Any) -> Any:
            table = pl.DataFrame({"symbol": symbols[0], "time": days, **columns, "volume": 1.0})
            return makes[0](table) if symbols[0] == "A" else table

    VENDORS.add(Own)
    yield makes
    VENDORS.remove("odd")


def raises(error: BaseException) -> Callable[[pl.DataFrame], Any]:
    def fail(_: pl.DataFrame) -> Any:
        raise error

    return fail


ZONED = pl.col("time").dt.replace_time_zone("UTC")


def half_zoned(table: pl.DataFrame) -> Any:
    """Every second time of a pandas frame with a zone."""
    days = [day.replace(tzinfo=UTC) if number % 2 else day for number, day in enumerate(table["time"])]
    return table.drop("time").to_pandas().assign(time=pandas.Series(days, dtype=object))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda _: None, "got NoneType"), (lambda _: "bars.csv", "got str"), (lambda _: 7, "got int"),
        (lambda table: [table], "got list"), (lambda table: table.to_dict(), "got dict"),
        (lambda table: table["close"], "got Series"), (lambda table: table.to_numpy(), "got ndarray"),
        (lambda table: table.clear(), "no bars"), (lambda table: table.drop("close"), "no column for"),
        (lambda table: table.with_columns(symbol=pl.lit("ZZZ")), "rows of 'ZZZ'"),
        (lambda table: pl.concat([table, table.with_columns(symbol=pl.lit("B"))]), "rows of 'A', 'B'"),
        (lambda table: table.drop("symbol"), "no column of symbols"),
        (lambda table: table.with_columns(symbol=pl.lit(None)), "rows of None"),
        (lambda table: table.with_columns(symbol=pl.concat_list("symbol")), "holds objects"),
        (lambda table: table.with_columns(pl.Series("more", [{}] * 30, dtype=pl.Object)), "holds objects"),
        (lambda table: table.lazy().select("nothing"), "ColumnNotFoundError"),
        (lambda table: table.to_pandas().iloc[:, [0, 1, 2, 3, 4, 5, 5, 6]], "twice"),
        (lambda table: table.with_columns(time=pl.lit("no time")), "no time"),
        (lambda table: table.with_columns(time=pl.lit(datetime(2999, 1, 1))), "2999"),
        (raises(Mute()), "gave no bars for '': Mute."), (raises(SystemExit(3)), "SystemExit: 3"),
    ],
)  # fmt: skip
def test_what_a_vendor_gives_that_is_no_table_of_the_symbol_is_said_and_the_others_are_stored(
    make: Callable[[pl.DataFrame], Any], why: str, odd: Odd, tmp_path: Path, gatecast: Command
) -> None:
    odd.append(make)
    words = ("--into", tmp_path / "store", "--vendor", "odd", "--pause", 0, "--asset-class", "index", "--json")
    alone = gatecast("fetch", "A", *words, "--stamp", "close", "--timezone", "UTC", "--now", "2024-02-01T00:00+00:00")
    assert (alone.status, why in alone.said) == (2, True), alone.err
    assert list(tmp_path.iterdir()) == []
    done = gatecast(
        "fetch", "A", "C", *words, "--stamp", "close", "--timezone", "UTC", "--now", "2024-02-01T00:00+00:00"
    )
    assert done.status == 1
    assert why in done.json["missing"]["A"]
    assert {name: one["rows"] for name, one in done.json["symbols"].items()} == {"C": 30}
    assert dict(Store.open(tmp_path / "store").state.symbols) == {"C": "index"}


@pytest.mark.parametrize(
    "make",
    [lambda table: table.lazy(), lambda table: table.with_columns(ZONED), lambda table: table.to_pandas(), half_zoned],
)
def test_tables_of_any_kind_are_stored_beside_each_other(
    make: Callable[[pl.DataFrame], Any], odd: Odd, tmp_path: Path
) -> None:
    odd.append(make)
    done = fetch(
        ["A", "C"], tmp_path / "store", vendor="odd", pause_seconds=0, now=datetime(2024, 2, 1, tzinfo=UTC),
        options={"asset_class": "index", "stamp": "close", "timezone": "UTC"},
    )  # fmt: skip
    assert {name: (one["rows"], one["first"], one["last"]) for name, one in done.symbols.items()} == dict.fromkeys(
        ("A", "C"), (30, "2024-01-01", "2024-01-30")
    )


def test_fetch_asks_three_times_and_says_why_there_is_nothing(
    packages: None, exchange: Exchange, tmp_path: Path, gatecast: Command
) -> None:
    exchange.answers = None
    answer = gatecast("fetch", "SPY", "--into", tmp_path / "store", "--pause", 0)
    assert answer.status == 2
    assert [symbol for symbol, _ in exchange.asked] == ["SPY"] * 3
    assert "gave no bars of any symbol" in answer.err
    assert CANARY not in answer.err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", ["yfinance", "ccxt"])
def test_a_vendor_whose_package_is_not_installed_says_how_it_is(
    name: str, gatecast: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    answer = gatecast("live", tmp_path / "store", "--source", name, "--symbols", "A", "--rounds", 1)
    assert (answer.status, f"pip install 'gatecast[{name}]'" in " ".join(answer.err.split())) == (2, True)
    assert not (tmp_path / "store").exists()


def test_a_vendor_of_a_store_without_symbols_and_one_that_nobody_knows(gatecast: Command, tmp_path: Path) -> None:
    answer = gatecast("live", tmp_path / "store", "--source", "yfinance", "--rounds", 1)
    assert (answer.status, "give --symbols" in answer.err) == (2, True)
    answer = gatecast("live", tmp_path / "store", "--source", "nowhere", "--rounds", 1)
    assert (answer.status, "or a vendor (ccxt, yfinance" in " ".join(answer.err.split())) == (2, True)


# ── mail ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Post:
    """A mail server of this process: its address, and the mails that it was given."""

    address: str
    mails: list[str] = field(default_factory=list)


@pytest.fixture
def post() -> Iterator[Post]:
    found = Post("")

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline():
                if line[:4].upper() == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = iter(self.rfile.readline, b".\r\n")
                    found.mails.append(b"".join(lines).decode())
                self.wfile.write(b"221 bye\r\n" if line[:4].upper() == b"QUIT" else b"250 ok\r\n")

    with served(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as address:
        found.address = address
        yield found


def test_an_alarm_is_mailed_once_when_it_begins_and_once_when_it_is_over(
    post: Post, store: Path, bars: pl.DataFrame, closes: list[datetime], month: int, tmp_path: Path
) -> None:
    send = mail("me@example.com", post.address)
    folder = tmp_path / "files"
    dropped(bars, folder, closes[month - 6 : month - 2])
    silent = closes[month - 3] + timedelta(days=9)
    for hours in range(3):
        looked(store, folder, silent + hours * HOUR, alert=send)
    about = [one for one in post.mails if "Subject: gatecast: bars" in one]
    assert len(about) == 1
    assert "To: me@example.com" in about[0]
    dropped(bars, folder, closes[month - 6 : month + 4])
    looked(store, folder, closes[month + 3] + HOUR, alert=send)
    assert sum("Subject: gatecast: over: bars" in one for one in post.mails) == 1


def test_the_command_mails_through_the_server_that_the_environment_names(
    gatecast: Command, post: Post, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "files").mkdir()
    words = ("live", store, "--source", tmp_path / "files", "--rounds", 1, "--mail", "me@example.com")
    monkeypatch.setenv("GATECAST_SMTP", f"me:{CANARY}@host")
    answer = gatecast(*words)
    assert (answer.status, "set GATECAST_SMTP to HOST:PORT" in " ".join(answer.err.split())) == (2, True)
    assert CANARY not in answer.err
    monkeypatch.setenv("GATECAST_SMTP", post.address)
    assert gatecast(*words).status == 0
    assert any("Subject: gatecast: bars" in one for one in post.mails)


@pytest.mark.parametrize("bad", ["", "me", "me@a@b", "me@x\nBcc: you@x", "a,b@c"])
def test_what_is_no_address_is_refused(bad: str) -> None:
    with pytest.raises(SettingsError, match="no address"):
        mail(bad, "localhost:25")


class Silent(socketserver.BaseRequestHandler):
    """Answers nothing until the other side goes."""

    def handle(self) -> None:
        self.request.recv(100_000)
        self.request.settimeout(5)
        self.request.recv(100_000)


class Garbage(socketserver.BaseRequestHandler):
    """Answers what is no answer."""

    def handle(self) -> None:
        self.request.sendall(b"no answer\r\nat all\r\n\r\n")


@pytest.mark.parametrize("handler", [Silent, Garbage])
def test_a_server_that_does_not_answer_ends_nothing_and_the_others_hear(
    handler: type[socketserver.BaseRequestHandler], exchange: Exchange, store: Path, closes: list[datetime], month: int,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr("gatecast.live.alerts.PATIENCE_SECONDS", 0.2)
    (tmp_path / "files").mkdir()
    with served(socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)) as address:
        alerts = [
            webhook(f"http://{address}/{CANARY}"), mail("me@example.com", address),
            webhook(f"http://127.0.0.1:{CANARY}/"), webhook(exchange.address),
        ]  # fmt: skip
        now = closes[month - 3] + timedelta(days=9)
        done = looked(store, tmp_path / "files", now, alert=each_of(alerts))
    assert "bars" in {one["name"] for one in exchange.posted}
    told = [str(one["text"]) for one in Store.open(store).state.alarms if one["name"] == "alert"]
    assert len(told) == len(done.alerted)
    assert all("could not be sent" in text and CANARY not in text for text in told)


# ── 56: secrets ───────────────────────────────────────────────────────────────────────────────────


def test_no_secret_is_in_any_file_or_output(
    gatecast: Command, packages: None, exchange: Exchange, live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange.answers = None
    monkeypatch.setenv("GATECAST_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GATECAST_INDEX", f"postgresql+psycopg://me:{CANARY}@127.0.0.1:1/name?password={CANARY}")
    monkeypatch.setenv("GATECAST_WEBHOOK", f"{exchange.address}/hooks/{CANARY}?token={CANARY}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    shutil.copytree(live / "live_update", tmp_path / "store")
    store, said = tmp_path / "store", []
    for words in (
        ("live", store, "--source", "yfinance", "--rounds", 1), ("health", store), ("today", store, "--json"),
        ("store", "list", store, "--json"), ("store", "check", store, "--json"),
    ):  # fmt: skip
        with warnings.catch_warnings(record=True, action="always") as told:
            said.append(gatecast(*words))
        assert CANARY not in "".join(str(one.message) for one in told)
    assert [one.status for one in said[:2]] == [0, 2]
    assert "refused" in said[0].err
    assert any(one["name"] == "alert" for one in Store.open(store).state.alarms)
    monkeypatch.setattr(sys, "argv", ["gatecast", "live", "--webhook", f"https://host/{CANARY}"])
    said_of = sentence_of(RuntimeError(f"GET https://host/{CANARY} failed"))
    assert CANARY not in said_of
    assert list((tmp_path / "data" / "errors").glob("*.txt"))
    assert CANARY not in "".join(one.out + one.err for one in said)
    found = [path for path in tmp_path.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert {path.relative_to(tmp_path).parts[0] for path in found} <= {"site"}


class EndlessBanner(socketserver.BaseRequestHandler):
    """A server for mail that greets for ever, as fast as it is listened to."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.request.sendall(b"220-welcome\r\n" * 1000)


class SlowBanner(socketserver.BaseRequestHandler):
    """The same, a line at a time."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.request.sendall(b"220-welcome\r\n")
                time.sleep(0.05)


class EndlessContinue(socketserver.BaseRequestHandler):
    """A server that says for ever that one may go on."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                time.sleep(0.05)


@pytest.mark.parametrize("handler", [EndlessBanner, SlowBanner, EndlessContinue])
def test_an_alert_to_a_server_that_never_ends_its_answer_ends_in_time(
    handler: type[socketserver.BaseRequestHandler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatecast.live.alerts.PATIENCE_SECONDS", 0.5)
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    with served(server) as address:
        before = {*threading.enumerate()}
        alert = webhook(f"http://{address}") if handler is EndlessContinue else mail("me@example.com", address)
        with pytest.raises(OSError, match=r"."):
            alert("stale", "no bars", True)
        time.sleep(1.0)
        left = {*threading.enumerate()} - before
        assert not [one for one in left if "work" in one.name]


@pytest.mark.parametrize("address", ["http://me:c4n4ry-t0ken@127.0.0.1:1/x", "https://c4n4ry-t0ken@host", "http://"])
def test_an_address_that_nothing_can_be_posted_to_is_refused_at_the_start(
    address: str, gatecast: Command, tmp_path: Path
) -> None:
    done = gatecast("live", tmp_path / "store", "--source", tmp_path, "--webhook", address, "--rounds", 1)
    assert done.status == 2
    assert "webhook" in done.err
    assert CANARY not in done.err + done.out
