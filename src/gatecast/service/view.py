"""What a store says after one record of its journal: dictionaries, which the API gives as JSON and the pages draw.

A view never changes. All that stands in one answer is of one record and one model in force; both are in the answer.
"""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from threading import Lock, RLock
from typing import Any, TypeVar, cast

import polars as pl

from gatecast.errors import GatecastError, NotDecidedError, NotKeptError, did_you_mean
from gatecast.explanations import StoreOrigin, explained
from gatecast.explanations.moments import NO_BAR, NOT_COME
from gatecast.files import jsonable
from gatecast.forecasting.panel import ENSEMBLE
from gatecast.live.actions import say_waiting
from gatecast.live.book import holdings_of
from gatecast.live.exposure import exposure_now
from gatecast.live.gates import WITHOUT_FORECAST, late_in_words, say_gate
from gatecast.live.kept import alarms_said
from gatecast.live.morning import sessions_of_book
from gatecast.live.standing import Standing, standing
from gatecast.live.today import NEEDED, said_first, today_of
from gatecast.market.bars import session_date
from gatecast.report.candles import candles_data
from gatecast.report.figures import names_of, titles_of
from gatecast.runs import Run
from gatecast.store.about import about
from gatecast.store.issued import Piece, issued_keys
from gatecast.store.journal import Record
from gatecast.store.parts import Parts
from gatecast.store.pieces import WEIGHTS, numbered_in_order, pieces_by_record, table_of
from gatecast.store.schema import KEYS, TABLES, Provenance, Scores
from gatecast.store.store import Store

Answer = dict[str, Any]
Made = TypeVar("Made")
Close = datetime | date | None
"""A moment, or a session: a date."""
CHARTED = 550
"""Newest bars of each class whose forecasts are read, and of which charts are made."""
MOST_ISSUED = 300
"""Newest records of decisions that are read."""
SUMMARY = (
    "symbol", "asset_class", "time", "close", "today", "gate", "gate_sentence", "signal", "consensus", "z", "strategy",
    "evidence", "expected_return_log", "standard_deviation", "low_80", "high_80", "probability_up",
    "regime_probability", "held", "target", "trade", "held_before", "held_why", "why", "cut_by", "kept_by",
    "limited_by", "flags", "model",
)  # fmt: skip
"""What is said of each symbol where all are listed."""
OF_BOOK = (
    "held", "target", "trade", "core", "tilt", "held_before", "cut_by", "kept_by", "limited_by", "risk_share",
)  # fmt: skip
NOTHING_KNOWN = "not known"
NOTHING_DECIDED = (
    "no update has decided of this symbol yet: it needs a model (gatecast retrain STORE) and a whole window of bars, "
    "then the next gatecast update decides."
)


class UnknownSymbolError(GatecastError):
    """There is no such symbol, or no such file."""


class View:
    """The answers of a store after its newest record; each is made once, when it is first asked for.

    `now`: the moment up to which bars count.
    """

    def __init__(self, store: Store, now: datetime) -> None:
        self.store, self.now = store, now
        self._made: dict[str, Any] = {}
        self._locks: dict[str, RLock] = {}
        self._lock = Lock()
        self._explaining = Lock()

    @property
    def head(self) -> Answer:
        """Of which store, record and model an answer is: a part of every answer."""
        state = self.store.state
        return {"store": state.id, "record": state.number, "hash": state.hash, "model": state.serving}

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What `make` gives, made at the first call alone; other parts can be made meanwhile."""
        if name in self._made:
            return cast(Made, self._made[name])
        with self._lock:
            lock = self._locks.setdefault(name, RLock())
        with lock:
            if name not in self._made:
                self._made[name] = make()
            return cast(Made, self._made[name])

    def has(self, name: str) -> bool:
        """Whether `once` has made it."""
        return name in self._made

    def answer(self, content: Mapping[str, Any]) -> Answer:
        """A part of the answers with the head, as JSON holds it."""
        return {"head": self.head, **jsonable(content)}

    # ── today ─────────────────────────────────────────────────────────────────────────────────────

    def today(self) -> Answer:
        """As `gatecast today --json` has it; each decision has `missing`, see `missing_of`."""
        return self.once("today", self._today)

    def _today(self) -> Answer:
        told = today_of(self.store, self.now)
        found = jsonable(told.to_dict())
        found["book_sentence"] = told.book.sentence if told.book else None
        found["missed_sentence"] = told.book.missed_sentence if told.book else ""
        found["decisions"] = [{**row, "missing": missing_of(row)} for row in found["decisions"]]
        return cast(Answer, found)

    @property
    def alert(self) -> str:
        """What every page says first: that records were lost, that what stands there is not of today; else ""."""
        return said_first(self.today())

    def symbols(self) -> Answer:
        """All symbols with their class and what was decided of each last."""
        rows = self.rows
        waiting = self.store.state.waiting
        return {
            "symbols": [
                {
                    **{name: rows.get(symbol, {}).get(name) for name in SUMMARY}, "symbol": symbol,
                    "asset_class": kind, "waits": symbol in waiting,
                    "missing": rows.get(symbol, {}).get("missing") or {"time": NOTHING_DECIDED},
                }
                for symbol, kind in sorted(self.store.state.symbols.items())
            ]
        }  # fmt: skip

    @property
    def rows(self) -> dict[str, Answer]:
        """Symbol -> its newest decision, as `today` has it."""
        return {row["symbol"]: row for row in self.today()["decisions"]}

    def known(self, symbol: str) -> str:
        """The same symbol. Raises `UnknownSymbolError` where the store has none of this name.

        In addresses `.` and `..` end with a slash, as browsers take them for folders otherwise.
        """
        symbol = symbol.removesuffix("/") if symbol in ("./", "../") else symbol
        if symbol not in self.store.state.symbols:
            advice = did_you_mean(symbol[:80], self.store.state.symbols)
            raise UnknownSymbolError(f"the store has no symbol {symbol[:80]!r}. {advice}".strip())
        return symbol

    def book(self) -> Answer:
        """What the book holds at its newest session; `reason` says why there is none."""
        found = self.today()["book"]
        if found is None:
            return {"book": None, "reason": "the book begins at the store's first decision: there is none yet."}
        said = {row["symbol"]: row.get("held_why") for row in self.today()["decisions"]}
        rows = [{**row, "why": said.get(row["symbol"])} for row in found["holdings"]]
        return {"book": {**found, "holdings": rows}, "behind": self.today()["behind"]}

    def sessions_of_book(self) -> list[Any]:
        """What the records say of the book's sessions, see `store.schema.BookOfRecord`, in order; of one that was
        decided again the newest."""
        return self.once("sessions of the book", lambda: sessions_of_book(self.store))

    def findings(self) -> Answer:
        """What somebody should look at: of the book, of the inputs (drift), of refits that are due, of bars that
        wait, of a dead feed.

        The alarms are those of `drift` and of `gatecast health`, of symbols that the book leaves out, too.
        """
        told = self.today()
        rows = [{"kind": "lost", "symbol": None, "time": None, "sentence": told["lost"]}] if told["lost"] else []
        rows += [
            {"kind": "drift", "symbol": one.get("symbol"), "time": one["time"], "sentence": one["sentence"]}
            for one in told["alarms"]
        ]
        if told["due"]:
            sentence = f"{told['due'][:1].upper()}{told['due'][1:]}."
            advice = "`gatecast retrain --if-due` makes up for it."
            rows.append({"kind": "refit", "symbol": None, "time": None, "sentence": sentence, "advice": advice})
        rows += told.get("findings") or []
        rows += [
            {
                "kind": "break", "symbol": one["symbol"], "time": None,
                "advice": "Explain it with `gatecast reconcile`.", "sentence": one["sentence"],
            }
            for one in told.get("breaks") or []
        ]  # fmt: skip
        close = datetime.fromisoformat
        late = late_in_words({**row, "time": close(row["time"])} for row in told["decisions"])
        rows += [{"kind": "late", "symbol": None, "time": None, "sentence": one} for one in late]
        rows += [{"kind": "orders", "symbol": None, "time": None, "sentence": one} for one in told["superseded"]]
        halts = [{**one, "symbol": None} for one in told["halts"]] + told["restricted"]
        rows += [
            {"kind": "halt", "symbol": one["symbol"], "time": one["since"], "sentence": one["sentence"]}
            for one in halts
        ]
        rows += [
            {"kind": "waits", "symbol": None, "time": None, "sentence": one.sentence} for one in say_waiting(self.store)
        ]
        if told["missed_sentence"]:
            rows.append({"kind": "missed", "symbol": None, "time": None, "sentence": told["missed_sentence"]})
        if told["behind"]:
            rows.append({"kind": "behind", "symbol": None, "time": None, "sentence": told["behind"]})
        return {"findings": rows}

    def orders(self, now: datetime) -> Answer:
        """Where the orders of the last sessions stand at a moment, see `live.standing`."""
        stage = self.stage(now)
        at = self.now if stage == self.stage(self.now) else now

        def made() -> Answer:
            return (self._standing if at == self.now else standing(self.store, at)).to_dict()

        return self.once(f"orders {stage}", made)

    def stage(self, now: datetime) -> int:
        """How often orders have changed without a record up to a moment: opens passed, and overrides expired."""
        return bisect_left(self._standing.moments, now)

    @property
    def _standing(self) -> Standing:
        return self.once("standing", lambda: standing(self.store, self.now))

    # ── a symbol ──────────────────────────────────────────────────────────────────────────────────

    def forecast(self, symbol: str) -> Answer:
        """The newest decision of a symbol, and `path`: what is forecast for each of the coming bars, made at the close
        `path_time`; [] where the newest decision has no forecast, as an older one is not of the coming bars.

        Raises `UnknownSymbolError`.
        """
        row = self.rows.get(self.known(symbol))
        if row is None:
            return {
                "symbol": symbol,
                "decision": None,
                "path": [],
                "path_time": None,
                "reason": NOTHING_DECIDED,
            }
        own = self.recent.scan_forecasts().filter(pl.col("symbol") == symbol, pl.col("model") == ENSEMBLE).collect()
        made_at = pl.lit(row["forecast_time"]).str.to_datetime(time_zone="UTC", time_unit="us")
        told = row.get("forecast_time") if row.get("expected_return_log") is not None else None
        at = own.filter(pl.col("time") == made_at) if told else own.clear()
        steps: dict[int, Answer] = {}
        for head, step, value in at.select("head", "step", "value").sort("step", "head").iter_rows():
            if head == "return" or head.startswith(("return_low_", "return_high_")):
                name = "expected_return_log" if head == "return" else head.removeprefix("return_") + "_log"
                steps.setdefault(step, {"step": step})[name] = value
        path = [steps[step] for step in sorted(steps)]
        reason = {} if path else {"reason": missing_of({**row, "path": None})["path"]}
        return {"symbol": symbol, "decision": row, "path": path, "path_time": told if path else None, **reason}

    def bars(self, symbol: str, since: Close, until: Close, limit: int) -> Answer:
        """The newest `limit` bars of a symbol that close from `since` to `until`, the oldest first, as JSON holds them.

        `more`: whether there are older ones in that range. Raises `UnknownSymbolError`.
        """
        symbol = self.known(symbol)
        own = self.all_bars.filter(pl.col("symbol") == symbol)
        rows = _within(own, since, until)
        kept = rows.tail(limit)
        missing = "the source gives no volume of it"
        return {
            "symbol": symbol, "more": len(rows) > len(kept),
            "bars": [
                {**row, "missing": {"volume": missing}} if row["volume"] is None else row for row in plain_rows(kept)
            ],
        }  # fmt: skip

    def decisions(self, symbol: str | None, since: Close, until: Close, limit: int) -> Answer:
        """The newest `limit` decisions that count, the newest first, each with what came after it.

        `came_return_log`: over the bars of the horizon after it; None where they have not all come, see `missing`.
        """
        own = self.decided if symbol is None else self.decided.filter(pl.col("symbol") == self.known(symbol))
        rows = _within(own, since, until).sort("time", "symbol", descending=[True, False])
        kept = rows.head(limit)
        came, titles = self._origin.came(kept["symbol"].unique().to_list()), self.store.experiment.strategy_titles
        kept = kept.join(came, on=["symbol", "time"], how="left", maintain_order="left")
        found = [(row, row.pop("not_come") or NO_BAR) for row in plain_rows(kept)]
        return {
            "horizon": self.horizon, "more": len(rows) > len(kept),
            "decisions": [
                {**row, "strategy_title": titles.get(row["strategy"], row["strategy"]),
                 "missing": missing_of(row, why_not_come)}
                for row, why_not_come in found
            ],
        }  # fmt: skip

    def candles(self, symbol: str) -> Answer | None:
        """The data of a symbol's chart, see `report.candles`, and `closes`: the exact moment of each bar's close;
        `bars_in_store`: of how many bars those that are drawn are the newest.

        None without bars. The fan is that of the newest close or none.
        """
        state = self.rows.get(self.known(symbol), {}).get("today")
        ended = {"ended": "ended", "no bar": "no bar today"}.get(str(state))
        data = candles_data(self.recent, symbol, since=ended, known=self._known)
        if data is None:
            return None
        fan, row = data["fan"], self.rows.get(symbol, {})
        if fan and (row.get("expected_return_log") is None or fan["origin"] != len(data["time"]) - 1):
            data["fan"] = None  # an older forecast is not of the coming bars
        own = self.all_bars.filter(pl.col("symbol") == symbol).sort("time")["time"]
        closes = [one.isoformat() for one in own.tail(len(data["time"]))]
        return {**data, "closes": closes, "bars_in_store": len(own)}

    @property
    def since(self) -> str:
        """The session of the store's first decisions, a date; "" before them."""
        return next((one.session[:10] for one in self.store.state.issued if one.session), "")

    @property
    def all_bars(self) -> pl.DataFrame:
        """All bars up to now."""
        return self.once("bars", lambda: self._origin.bars)

    @property
    def horizon(self) -> int:
        """Bars that forecasts are of."""
        return self.once("horizon", lambda: self.store.experiment.horizon)

    @property
    def decided(self) -> pl.DataFrame:
        """The newest decisions that count, a row a symbol and close, of the newest records."""
        return self.once("decided", self._decided)

    def _decided(self) -> pl.DataFrame:
        tables = [pl.DataFrame(schema=KEYS)]
        for one in reversed(self.store.state.issued[-MOST_ISSUED:]):
            made_by = pl.lit(one.model, pl.Int64).alias("model")
            tables.append(self.store.decisions_of(one.decisions, NEEDED).with_columns(made_by))
        whole = pl.concat(tables, how="diagonal_relaxed")
        return whole.unique(["symbol", "time"], keep="first", maintain_order=True).sort("symbol", "time")

    @property
    def recent(self) -> Run:
        """The newest bars, forecasts, signals and weights of the store as a run, from which the report draws."""
        return self.once("recent", self._recent)

    @property
    def _pieces(self) -> dict[int, dict[str, Piece]]:
        return self.once("pieces", self._pieces_since)

    def _pieces_since(self) -> dict[int, dict[str, Piece]]:
        since = self._charted_since().to_numpy()[0]
        return {
            number: {name: one.of_rows(one.issued.time >= since) for name, one in own.items()}
            for number, own in pieces_by_record(self.store.artefacts, self.store.state, self.horizon).items()
        }

    @property
    def _known(self) -> pl.DataFrame:
        """symbol, time and close as it was known when its forecast was issued, of those that are charted."""
        return self.once("known", self._known_then)

    def _known_then(self) -> pl.DataFrame:
        made_by = [keys.select(*KEYS, record=pl.lit(number, pl.Int64)) for number, _, keys in self._issued_rows()]
        empty = pl.DataFrame(schema={**KEYS, "record": pl.Int64})
        first = pl.concat([empty, *made_by]).unique(list(KEYS), keep="first", maintain_order=True)
        return self.store.bars.closes_by_record(first, self.now)

    def _issued_rows(self) -> list[tuple[int, Piece, pl.DataFrame]]:
        """The number of the record, the piece and its symbols and closes, class by class in the order that counts."""
        return [
            (number, one, issued_keys(one.issued))
            for kind in sorted({name for own in self._pieces.values() for name in own})
            for number, one in numbered_in_order(
                [(number, own[kind]) for number, own in self._pieces.items() if kind in own]
            )
        ]

    def _recent(self) -> Run:
        scores, provenance, pieces = self.scores, self.provenance, self._pieces
        since = self._charted_since()
        forecasts = table_of(pieces, self.horizon, (ENSEMBLE,)).with_columns(known_at="time")
        sink = io.BytesIO()
        forecasts.write_parquet(sink)
        kept = [
            keys.with_columns(pl.Series(name, one.weights[name]) for name in WEIGHTS)
            for _, one, keys in self._issued_rows()
        ]
        empty = {name: pl.DataFrame(schema=TABLES[name]) for name in ("weights", "signals", "equity")}
        weights = pl.concat([empty["weights"], *kept]).unique(["symbol", "time"], keep="first", maintain_order=True)
        own = [name for name in TABLES["signals"] if name in self.decided.columns]
        signals = self.decided.select(own) if own == list(TABLES["signals"]) else empty["signals"]
        bars = self.all_bars.filter(pl.col("time") >= since[0])
        return Run(
            self.store.experiment, bars, sink.getvalue(), signals.filter(pl.col("strategy").is_not_null()),
            weights.sort("symbol", "time"), empty["equity"], scores, provenance, path=self.store.folder,
            book=holdings_of(self.store, last=CHARTED),
        )  # fmt: skip

    def _charted_since(self) -> pl.Series:
        """The close of the bar so many before the newest, of the class that reaches furthest back."""
        times = self.all_bars.select("asset_class", "time").unique().sort("time")
        first = times.group_by("asset_class").agg(pl.col("time").tail(CHARTED).first())["time"].sort().head(1)
        return first if len(first) else pl.Series("time", [datetime(1970, 1, 1, tzinfo=UTC)], TABLES["bars"]["time"])

    # ── why ───────────────────────────────────────────────────────────────────────────────────────

    def explain(self, symbol: str, time: Close = None) -> Answer:
        """Why a symbol was forecast and held as it was, as `gatecast explain --json` has it; at its newest close, or at
        `time`: that close, or the newest of that session. What was decided there is made again, one after the other.

        None with a `reason` for a close at which nothing was decided. Raises `UnknownSymbolError`.
        """
        known = self.known(symbol)
        nothing: Answer = {"symbol": known, "explanation": None, "changes": [], "titles": {}}
        with self._explaining:
            if known not in self._origin.newest():
                return {**nothing, "reason": NOTHING_DECIDED}
            try:
                found = explained(self._origin, known, time, refits=1).to_dict()
            except (NotDecidedError, NotKeptError) as error:
                return {**nothing, "reason": str(error)}
        return {"symbol": known, "explanation": found["explanations"][0], "titles": found["titles"]}

    @property
    def _origin(self) -> StoreOrigin:
        return self.once("origin", lambda: StoreOrigin(self.store, self.now))

    def changes(self) -> Answer:
        """What the newest refit changed, class by class: shares of inputs beside those before, and their stability."""
        return self.once("changes", self._changes)

    def _changes(self) -> Answer:
        rows: list[Answer] = []
        titles: Answer = {}
        with self._explaining:
            for kind in sorted({*self.store.state.symbols.values()}):
                newest = self._origin.newest()
                own = [name for name, one in sorted(self.store.state.symbols.items()) if one == kind and name in newest]
                try:
                    found = (
                        explained(self._origin, own[0], refits=2).to_dict() if own else {"changes": [], "titles": {}}
                    )
                except NotKeptError:
                    continue
                rows += found["changes"]
                titles |= found["titles"]
        return {"changes": rows, "titles": titles}

    # ── models ────────────────────────────────────────────────────────────────────────────────────

    @property
    def scores(self) -> Answer:
        """The scores of the model in force; {} without one."""
        return self.once("scores", lambda: self._part("scores.json", Scores))

    @property
    def provenance(self) -> Answer:
        """The provenance of the model in force; {} without one."""
        return self.once("provenance", lambda: self._part("provenance.json", Provenance))

    def _part(self, role: str, schema: Any) -> Answer:
        model = self.store.state.model(self.store.state.serving)
        if model is None or role not in model.parts:
            return {}
        content = {role: self.store.artefacts.get(model.parts[role])}
        return dict(Parts.of_content(self.store.folder, content).json(role, schema))

    def models(self) -> Answer:
        """All refits, the newest first: when, what became of each, and which is in force; and what brings one back."""
        state = self.store.state
        records = self.records
        backs = [
            {"record": one.number, "now": one.now, "model": one.body["model"]}
            for one in records if one.kind == "rollback"
        ]  # fmt: skip
        asked = {one.number: one.body for one in records if one.kind == "refit"}
        rows = [
            {
                "model": one.record, "made": one.now, "cutoffs": dict(one.cutoffs), "status": one.status,
                "reason": one.reason, "goes_on_from": one.goes_on, "in_force": one.record == state.serving,
                "before": one.record == state.previous,
                "asked_for": sorted(asked.get(one.record, {}).get("asked", {})),
                "alarms": sum(len(each) for each in asked.get(one.record, {}).get("alarms", {}).values()),
            }
            for one in reversed(state.models)
        ]  # fmt: skip
        return {"models": rows, "rollbacks": backs[::-1], "missed": list(state.missed), "names": self._names()}

    @property
    def records(self) -> list[Record]:
        """The records of the journal up to the view's own."""
        return self.once("records", self._records)

    def _records(self) -> list[Record]:
        self.store.journal.record(self.store.state.number)  # all of them are there
        return list(self.store.records())

    def _names(self) -> Answer:
        return dict(self.scores.get("names") or {})

    def refits(self) -> Answer:
        """The refits that the model in force is made of, class by class, and those that the guard refused."""
        scores = self.scores
        return {
            "refits": list(scores.get("folds") or []), "refused": list(scores.get("refused") or []),
            "seconds": dict(self.provenance.get("seconds") or {}),
        }  # fmt: skip

    def verdicts(self) -> Answer:
        """The verdicts of the newest refit on each head, with their sentences."""
        scores = self.scores
        reason = {} if scores else {"reason": "there is no model yet, so that nothing was judged."}
        return {"summary": scores.get("summary") or {}, "verdicts": scores.get("verdicts") or {}, **reason}

    def drift(self) -> Answer:
        """The alarms of drift that are on, and the store's newest alarms of any kind."""
        return {"on": alarms_said(self.store), "told": [dict(one) for one in reversed(self.store.state.alarms)]}

    def runs(self, limit: int) -> Answer:
        """The newest records of the journal, one for each thing that a command did, the newest first."""
        records = self.records
        rows = [
            {"record": one.number, "now": one.now, "written": one.time, "kind": one.kind, "about": about(one)}
            for one in records[-limit:]
        ]
        return {"runs": jsonable(rows[::-1]), "more": len(records) > limit}

    # ── risk ──────────────────────────────────────────────────────────────────────────────────────

    def risk(self) -> Answer:
        """What the book may lose from its newest close on, and how its tails held so far, at the newest refit."""
        return self.once("risk", self._risk)

    def _risk(self) -> Answer:
        control = (self.scores.get("book") or {}).get("risk") or {}
        found = exposure_now(self.store, self.now) if self.store.state.serving else None
        reason = {} if found else {"reason": "the book begins at the store's first decision: there is none yet."}
        told: Answer = jsonable({"today": found.to_dict() if found else None, "tails": control.get("tails"), **reason})
        return told

    # ── for the pages ─────────────────────────────────────────────────────────────────────────────

    def names(self) -> Mapping[str, str]:
        """Model -> title."""
        return names_of(self.recent)

    def titles(self) -> Mapping[str, str]:
        """Strategy -> title."""
        return titles_of(self.recent)


def missing_of(row: Mapping[str, Any], not_come: str = NOT_COME) -> dict[str, str]:
    """Column of a decision without a value -> why. `not_come`: why it is not known what came after it.

    What is a forecast, or made of one, lacks for the gate that closed before there was one; a gate that closed after
    that explains no number.

    >>> missing_of({"gate": "stale", "z": None, "held": None, "model": 3})
    {'z': 'the newest bar is too old', 'held': 'the book holds nothing of it'}
    >>> missing_of({"gate": "flat", "z": None, "came_return_log": None})
    {'z': 'not known', 'came_return_log': 'not all bars of the horizon have come'}
    """
    gate = row.get("gate")
    why = say_gate(gate) if gate in WITHOUT_FORECAST else NOTHING_KNOWN
    said = {
        **dict.fromkeys(OF_BOOK, "the book holds nothing of it"), "before": "there was no decision before",
        "change": "there was no decision before" if row.get("before") is None else why, "came_return_log": not_come,
        "replaced": "no other model decided at this close",
    }  # fmt: skip
    return {name: said.get(name, why) for name, value in row.items() if value is None}


def plain_rows(table: pl.DataFrame) -> list[Answer]:
    """The rows of a table as JSON holds them: times as `jsonable` spells them, null for what is not finite.

    >>> table = pl.DataFrame({"time": [datetime(2024, 1, 2, 21, tzinfo=UTC)], "z": [float("nan")], "n": [3]})
    >>> plain_rows(table) == jsonable(table)
    True
    """
    spelled = [
        pl.col(name).dt.to_string("%Y-%m-%d %H:%M:%S%:z")
        if isinstance(kind, pl.Datetime)
        else pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name)
        if kind.is_float()
        else pl.col(name)
        for name, kind in table.schema.items()
    ]
    return table.select(spelled).to_dicts()


def _within(rows: pl.DataFrame, since: Close, until: Close) -> pl.DataFrame:
    """Rows whose close, or whose session where a date says so, lies from `since` to `until`."""
    if since is not None:
        rows = rows.filter(_named(since) >= since)
    return rows if until is None else rows.filter(_named(until) <= until)


def _named(by: datetime | date) -> pl.Expr:
    return pl.col("time") if isinstance(by, datetime) else session_date(pl.col("time"))
