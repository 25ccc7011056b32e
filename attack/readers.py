"""Everything of gatecast's that reads a file, each with a good example that is mutated.

A new kind of file joins `READERS`; a test fails for a module that opens files and is in no entry.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from attack.cell import CANARY, command
from attack.mutate import irregular, mutation

SMALL_NETWORK = """\
[model.lstm]
units = 16
layers = 1
seeds = 1
epochs = 2"""
"""Settings of a network that is trained in a second."""
SETTINGS = f"""\
name = "good"
models = ["lstm", "forest", "logistic", "ridge", "garch", "markov", "residual_lstm"]
features = ["ret_log_1", "x"]
lookback = 12
horizon = 2
volatility_proxy = "close_to_close"
[bars]
asset_class = "index"
[schedule]
refit = "1Y"
{SMALL_NETWORK}
[model.forest]
trees = 4
[strategies]
names = ["trend"]
[selection]
evidence = 1.0
"""


@dataclass(frozen=True)
class Reader:
    """A loader with its good example.

    `modules`: those of gatecast's whose reading it tries. `good`: where the example lies in the folder of examples, a
    file or a folder. `read`: a function of this module that is called with the path in a process of its own and
    returns JSON. `judge`: what came for the good and for the bad example in, a complaint out; empty where all is well.
    `share`: its part of the cases of its group.
    """

    name: str
    group: str
    modules: tuple[str, ...]
    good: str
    read: Callable[..., Any]
    judge: Callable[[Any, Any, str], str] = lambda good, bad, done: ""
    parts: str = "*"
    share: float = 1.0
    others: tuple[str, ...] = field(default=())


# ── the good examples ─────────────────────────────────────────────────────────────────────────────


def make_examples(folder: Path) -> None:
    """Writes all good examples, with one small run of many models."""
    import polars as pl

    from gatecast.experiment import Experiment
    from gatecast.files import append_lines
    from gatecast.market import synthetic
    from gatecast.report import render
    from gatecast.runs import run
    from gatecast.settings import to_toml
    from gatecast.store import save_run, write_page

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "token.txt").write_text("a-good-token-of-32-characters-ok\n", encoding="ascii")
    (folder / "token.txt").chmod(0o600)
    bars = synthetic.b1(760, seed=3, r2=0.05, symbols=2)
    plain = bars.select("symbol", "open", "high", "low", "close", "volume", "x", date=pl.col("time").dt.date())
    plain = plain.select("date", pl.exclude("date"))
    plain.filter(pl.col("date").rank("dense") <= 60).write_csv(folder / "bars.csv")
    plain.write_parquet(folder / "bars.parquet")
    plain.write_csv(folder / "newest.csv")
    with zipfile.ZipFile(folder / "bars.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(folder / "bars.csv", "bars.csv")
    (folder / "symbols.csv").write_text("symbol,asset_class\nB1_0,index\nB1_1,index\n")
    (folder / "splits.csv").write_text("symbol,date,ratio\nB1_0,2000-02-01,1\n")
    (folder / "actions.csv").write_text(
        "symbol,date,kind,value,pay_date,into,ratio\nB1_0,2000-02-01,split,1,,,\nB1_1,2000-03-27,delisting,-0.3,,,\n"
        "B1_0,2000-02-02,dividend,0.5,2000-02-10,,\nB1_0,2000-02-03,spin-off,0.25,,B1_1,\n"
    )
    (folder / "weights.csv").write_text("symbol,weight\nB1_0,0.6\nB1_1,-0.2\n")
    (folder / "borrow.csv").write_text(
        "symbol,date,available,rate,recall\nB1_0,2000-02-01,yes,0.02,no\nB1_1,2000-02-02,no,,\nB1_0,2000-03-01,,0.03,yes\n"
    )
    (folder / "held.csv").write_text(
        "# as_of: 2001-12-28\n# account: A1\n# currency: USD\n# positions: 2\nsymbol,units\nB1_0,100\nB1_1,-5.5\n"
    )
    (folder / "open.csv").write_text("order_id,symbol,side,remaining\na1,B1_0,buy,10\na2,B1_1,sell,3\n")
    (folder / "fills.csv").write_text(
        "fill_id,order_id,symbol,side,units,price,time\n"
        "f1,a1,B1_0,buy,4,101.5,2001-12-31T14:30+00:00\nf2,a1,B1_0,buy,6,101.25,2001-12-31T14:31:00\n"
    )
    (folder / "universe.csv").write_text("symbol,from,to\nB1_0,,2000-03-01\nB1_1,2000-02-01,\n")
    days = [f"2000-02-{day:02d}" for day in (1, 2, 3, 4, 7)]
    rows = [f"B1_0,{day},return,2,0.0{place}" for place, day in enumerate(days)]
    (folder / "outside.csv").write_text("\n".join(["symbol,date,head,step,value", *rows, ""]))
    (folder / "settings.toml").write_text(SETTINGS)
    (folder / "all_settings.toml").write_text(to_toml(Experiment()))
    experiment = Experiment.from_toml(folder / "settings.toml", bars={"source": str(folder / "newest.csv")})
    done = save_run(run(experiment), folder / "run")
    write_page(folder / "run", render(done))
    _make_ledger(folder / "data", bars)
    lines = [{"key": "k", "copy": copy, "statistics": {"gain": 0.1 * copy}} for copy in range(5)]
    append_lines(folder / "copies.jsonl", lines)
    _make_networks(folder / "kept")
    _make_studies(folder / "studies.db")
    _make_store(folder / "store")
    make_live(folder)
    read_sessions(str(folder / "sessions"))


def _make_store(folder: Path) -> None:
    """A store with bars in two journals' files, a model and decisions."""
    from datetime import timedelta

    import polars as pl
    from safetensors.numpy import save

    from gatecast.experiment import Experiment
    from gatecast.market import synthetic
    from gatecast.store import Store

    bars = synthetic.b1(60, seed=3, r2=0.05, symbols=2)
    now = bars["time"].max() + timedelta(hours=1)
    store = Store.create(folder, Experiment(name="kept"), now=now)
    store.add_bars(bars.filter(pl.col("time").rank("dense") <= 40), now)
    model = store.put(save({"weights": bars["x"].to_numpy()}), ".safetensors")
    refit = store.append("refit", {"parts": {"ridge.safetensors": model}, "cutoffs": {"index": "2000-03-01"}}, now)
    store.append("accepted", {"model": refit.number}, now)
    store.snapshot(now)
    store.add_bars(bars, now)
    store.issue(bars.tail(1).select("symbol", "time", weight=pl.lit(0.5), reason=pl.lit("because")), now)
    store.beat(now)


LIVE_MOMENTS = {"live_update": "2001-12-31", "live_retrain": "2002-01-02", "live_rollback": "2002-01-02"}
"""Store with models -> the day, after the close, at which it is met: before a refit, as one is due, and after it."""


def now_of(store: str) -> str:
    """The moment of a store of `LIVE_MOMENTS`."""
    return f"{LIVE_MOMENTS[store]}T23:00:00+00:00"


def make_live(folder: Path) -> None:
    """Stores with cheap models, and bars that come next: `live_next.csv`, and `live_all.csv` with those before."""
    from datetime import datetime

    import polars as pl

    from gatecast.experiment import Experiment
    from gatecast.live import retrain, update
    from gatecast.market import synthetic

    bars = synthetic.b1(560, seed=3, r2=0.08, symbols=2)
    plain = bars.select(
        pl.col("time").dt.date().alias("date"), pl.exclude("time", "segment", "known_at", "asset_class")
    )
    plain.write_csv(folder / "live_all.csv")
    day = pl.col("date").cast(pl.String)
    plain.filter(day >= pl.lit("2001-12-20"), day <= pl.lit("2001-12-31")).write_csv(folder / "live_next.csv")
    experiment = Experiment(
        features=("x", "ret_log_1"), lookback=10, models=("ridge", "logistic"),
        signals={"model": "ridge", "confirmed_by": "ridge"}, schedule={"train": "1Y", "minimum": "1Y"},
        selection={"evidence": 1.0, "minimum_days": 20}, too_good=("planted",), bars={"asset_class": "index"},
    )  # fmt: skip
    for last, name in (("2001-12-28", "live_update"), ("2002-01-02", "live_retrain")):
        store, now = folder / name, datetime.fromisoformat(f"{last}T23:00:00+00:00")
        if name == "live_retrain":
            shutil.copytree(folder / "live_update", store)
        plain.filter(day <= pl.lit(last)).write_csv(folder / "first.csv")
        update(store, folder / "first.csv", now=now, experiment=experiment)
        if name == "live_update":
            retrain(store, now=now)
    shutil.copytree(folder / "live_retrain", folder / "live_rollback")
    retrain(folder / "live_rollback", now=datetime.fromisoformat(now_of("live_rollback")))
    (folder / "first.csv").unlink()


def _make_ledger(folder: Path, bars: Any) -> None:
    from gatecast.evaluation.ledger import record_trial

    before = os.environ.get("GATECAST_DATA")
    os.environ["GATECAST_DATA"] = str(folder)
    try:
        for trial in _trials(bars):
            record_trial(trial)
    finally:
        os.environ["GATECAST_DATA"] = before or ""


def _trials(bars: Any) -> list[Any]:
    from datetime import date

    import polars as pl

    from gatecast.evaluation.trial import Data, Trial, market_of

    market = market_of(bars)
    days = [date(2001, 1, day) for day in range(2, 30)]
    profit = pl.DataFrame({"session": days, "net": [0.001 * day for day in range(28)]})
    return [
        Trial(
            ("B1_0", "B1_1"), "2000-01-03", "2002-11-29", f"configuration{number}", 0.02 * number, profit,
            data=Data("d", market_key=market.key, market=market),
        )
        for number in range(4)
    ]  # fmt: skip


def _make_networks(folder: Path) -> None:
    from gatecast.forecasting.lstm.training import Fit, initial_weights
    from gatecast.forecasting.lstm.unfinished import keep

    settings, lesson = _network()
    weights = initial_weights(settings, lesson.inputs.shape[1], lesson.table.shape[1], 1)
    keep(folder, "k" * 64, Fit(weights, 2, (1.0, 0.5), (1.0, 0.6)))


def _network() -> tuple[Any, Any]:
    """Settings of a small network, and the shapes of a fold that it learns from."""
    from types import SimpleNamespace

    import numpy as np

    from gatecast.forecasting.lstm import LSTM

    settings = LSTM(units=16, layers=1, epochs=2)
    return settings, SimpleNamespace(inputs=np.zeros((1, 2)), table=np.zeros((1, len(settings.output_columns))))


def _make_studies(place: Path) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=f"sqlite:///{place}", study_name="s")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)


# ── what reads them ───────────────────────────────────────────────────────────────────────────────


def read_bars(path: str) -> Any:
    """The bars as a table of numbers, and how many findings there were."""
    import polars as pl

    from gatecast.market.sources import read_with_findings

    found = read_with_findings(path)
    bars = found.bars
    prices = bars.select("open", "high", "low", "close").drop_nulls()
    sound = (
        bool(prices.select(pl.all_horizontal(pl.all().is_finite() & (pl.all() > 0)).all()).item())
        if len(prices)
        else True
    )
    order = bars.group_by("symbol").agg(unique=pl.col("time").is_unique().all())["unique"].all()
    hl = prices.select(((pl.col("low") <= pl.col("close")) & (pl.col("close") <= pl.col("high"))).all()).item()
    return {"rows": len(bars), "sound": sound and bool(order) and bool(hl), "findings": len(found.findings)}


def check_bars(path: str) -> Any:
    """What the command says about bars."""
    return {"status": command("check", path, "--json")["status"]}


def check_symbols(path: str, bars: str) -> Any:
    return {"status": command("check", bars, "--symbols-file", path, "--json")["status"]}


def check_splits(path: str, bars: str) -> Any:
    return {"status": command("check", bars, "--splits", path, "--json")["status"]}


def check_actions(path: str, bars: str) -> Any:
    return {"status": command("check", bars, "--actions", path, "--json")["status"]}


def judge_table(path: str, others: str) -> Any:
    """The models of a file of forecasts, and what was read of each."""
    from gatecast.evaluation.outside import read_outside
    from gatecast.market.sources import read_bars as bars_of

    found = read_outside(path, bars_of(others, asset_class="index"), horizon=2)
    return {"kind": found.kind, "models": len(found.models), "sound": bool(found.rows["time"].is_not_null().all())}


def read_core(path: str) -> Any:
    """The weights of a core, as its settings take them."""
    from gatecast.trading.core import Core

    return {"weights": Core(kind="weights", file=path).with_file_read().weights}


def mark_bars(path: str, bars: str) -> Any:
    """What of bars lies inside a universe."""
    from gatecast.market.sources import read_bars as read
    from gatecast.market.universe import INSIDE

    return {"inside": read(bars, universe=path)[INSIDE].to_list()}


def read_loans(path: str) -> Any:
    """The rows of a table of loans, as settings hold them."""
    from gatecast.trading.terms import Loan, read_rows

    return {"rates": [row.rate for row in read_rows(path, Loan)]}


def read_held(path: str) -> Any:
    """The units of a file of positions."""
    from gatecast.live.positions import read_positions

    return {"units": list(read_positions(path).units.values())}


def read_open(path: str) -> Any:
    """What is left of each open order."""
    from gatecast.live.positions import read_open_orders

    return {"units": [units for _, units in read_open_orders(path).values()]}


def read_filled(path: str) -> Any:
    """The units of each fill."""
    from gatecast.live.positions import read_fills

    return {"units": [one.signed for one in read_fills(path)[0]]}


def read_settings(path: str) -> Any:
    """The settings as they are written again, and as they are read from that."""
    import tomllib

    from gatecast.experiment import Experiment
    from gatecast.settings import to_toml

    read = Experiment.from_toml(path)
    written = to_toml(read)
    return {"written": written, "same": Experiment(**tomllib.loads(written)) == read}


def read_run(folder: str) -> Any:
    """A digest of all that a run's folder holds."""
    from gatecast.files import sha256_of
    from gatecast.store import load_models, load_run, load_scale, past_of, run_parts

    loaded = load_run(folder)
    load_models(folder)
    load_scale(folder)
    past_of(loaded)
    return {"digest": {name: sha256_of(part) for name, part in run_parts(loaded).items()}}


def forecast_run(folder: str, bars: str) -> Any:
    """What `gatecast forecast` says; rows that hold something on a forecast that is not there."""
    found = command("forecast", folder, "--bars", bars, "--json")
    rows = json.loads(found["said"].splitlines()[-1])["forecasts"] if found["said"].strip() else []
    numbers = ("probability_up", "expected_return_log", "standard_deviation")
    hollow = [
        row["symbol"]
        for row in rows
        if row.get("current") and row.get("weight") and not all(_is_number(row.get(name)) for name in numbers)
    ]
    return {"status": found["status"], "hollow": hollow, "rows": rows}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def report_run(folder: str) -> Any:
    return {"status": command("report", folder)["status"]}


def unseal_run(folder: str, bars: str) -> Any:
    return {"status": command("unseal", folder, "--bars", bars)["status"]}


def read_ledger(folder: str) -> Any:
    """How many trials are on file, what is said, and how many there are once one more is recorded."""

    from gatecast.evaluation.ledger import ledger_path, read_trials
    from gatecast.evaluation.on_file import problems

    os.environ["GATECAST_DATA"] = folder
    with problems() as said:
        trials = read_trials(ledger_path())
    return {"trials": len(trials), "said": said}


def record_in_ledger(folder: str) -> Any:
    """The number of trials once one more is recorded, and what was said."""

    from gatecast.evaluation.ledger import record_trial
    from gatecast.evaluation.on_file import problems
    from gatecast.market import synthetic

    os.environ["GATECAST_DATA"] = folder
    with problems() as said:
        trials = record_trial(_trials(synthetic.b1(760, seed=3, r2=0.05, symbols=2))[-1])
    return {"trials": len(trials), "said": said}


def read_openings(folder: str) -> Any:
    from gatecast.evaluation.holdout import openings_path, read_openings
    from gatecast.evaluation.on_file import problems

    os.environ["GATECAST_DATA"] = folder
    with problems() as said:
        return {"openings": len(read_openings(openings_path())), "said": said}


def read_copies(path: str) -> Any:
    from gatecast.studies.placebo import read_copies

    return {"copies": {str(copy): one for copy, one in read_copies(Path(path), "k").items()}}


def read_sessions(folder: str) -> Any:
    """The digest of a calendar whose table is kept there; it is made again where the kept one cannot be used."""
    from datetime import UTC, datetime

    from gatecast.files import sha256_of
    from gatecast.market.sessions import calendar_of

    found = calendar_of("24/5", datetime(2025, 6, 1, tzinfo=UTC), folder=Path(folder))
    return {"sessions": sha256_of(found.session.tobytes() + found.close.tobytes())}


def recall_network(folder: str) -> Any:
    """The digest of a kept network; None where it would be made again."""
    from gatecast.files import sha256_of
    from gatecast.forecasting.lstm.unfinished import recall

    found = recall(Path(folder), "k" * 64, *_network())
    if found is None:
        return None
    weights = {name: sha256_of(array.tobytes()) for name, array in found.weights.items()}
    return {"weights": weights, "losses": [*found.train_loss, *found.validation_loss, found.best_epoch]}


def open_studies(path: str) -> Any:
    import warnings

    from gatecast.forecasting.tuning.search import open_storage

    with warnings.catch_warnings(record=True) as said, open_storage(f"sqlite:///{path}") as storage:
        names = [study.study_name for study in storage.get_all_studies()]
    return {"studies": names, "said": [str(one.message) for one in said]}


def read_store(folder: str) -> Any:
    """A digest of what a store holds, and what `gatecast store check` finds."""
    import warnings

    from gatecast.files import sha256_of
    from gatecast.provenance import hash_of_bars
    from gatecast.store import Store

    checked = command("store", "check", folder, "--json")
    found = json.loads(checked["said"].splitlines()[-1])
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        store = Store.open(folder)
        bars = store.bars.as_of(store.journal.last.now)  # type: ignore[union-attr]
        model = store.state.model(store.state.serving)
        arrays = {} if model is None else store.artefacts.arrays(model.parts["ridge.safetensors"])
        held = [store.experiment.to_dict(), store.decisions().to_dicts(), store.state.to_json()]
        store.heartbeat()
    digest = {
        "bars": hash_of_bars(bars), "held": sha256_of(json.dumps(held, default=str).encode()),
        "arrays": {name: sha256_of(array.tobytes()) for name, array in arrays.items()},
    }  # fmt: skip
    return {"digest": digest, "status": checked["status"], "faults": found["faults"]}


def content_of(store: Path) -> dict[str, Any]:
    """What a store holds, whatever stands in its journal: bars as of now, decisions, what was issued, models.

    Of decisions the latest of a symbol and close; of models the artefacts but for clocks, and which of them serves.
    """
    from datetime import UTC, datetime

    from gatecast.files import sha256_of
    from gatecast.live.kept import serve
    from gatecast.provenance import hash_of_bars
    from gatecast.store import Store

    opened = Store.open(store)
    state = opened.state
    decisions = opened.decisions().drop("record", "issued", strict=False)
    decisions = decisions.unique(["symbol", "time"], keep="last", maintain_order=True).sort("symbol", "time")
    models = [one for one in state.models if one.status == "accepted"]
    issued = {}
    if state.serving is not None:
        past = serve(opened, state.model(state.serving)).past  # type: ignore[arg-type]
        for name, one in past.forecasts.items():
            digest = [
                f"{model} {head} {sha256_of(array.tobytes())}"
                for model, heads in sorted(one.values.items()) for head, array in sorted(heads.items())
            ]  # fmt: skip
            issued[name] = sha256_of("\n".join([sha256_of(one.time.tobytes()), *digest]).encode())
        issued["weights"] = sha256_of(past.weights.write_json().encode())
    return {
        "bars": hash_of_bars(opened.bars.as_of(datetime.max.replace(tzinfo=UTC))),
        "decisions": sha256_of(decisions.write_json().encode()), "issued": issued,
        "models": [
            {role: part for role, part in one.parts.items() if role not in ("provenance.json", "scores.json")}
            for one in models
        ],
        "scores": [one.parts["scores.json"] for one in models],
        "serving": [one.record for one in models].index(state.serving) if state.serving is not None else None,
    }  # fmt: skip


def _update(store: str, bars: str) -> Any:
    """What `gatecast update` says of a copy of a store, and what its check finds after it."""
    from gatecast.errors import GatecastError
    from gatecast.store import Store

    own = Path("store")
    shutil.copytree(store, own, symlinks=True, copy_function=_copy_as_it_is)
    before = [one.sentence for one in Store.faults(own)]
    journal = sorted(file.name for file in (own / "journal").iterdir())
    try:
        done = command("update", str(own), "--bars", bars, "--now", now_of("live_update"), "--json")
    except GatecastError:
        if not before and (Store.faults(own) or sorted(file.name for file in (own / "journal").iterdir()) != journal):
            raise RuntimeError("a refusal changed the store") from None
        raise
    said = json.loads(done["said"].splitlines()[-1])
    rows = [{name: row.get(name) for name in ("symbol", "gate", "weight", "expected_return_log")}
            for row in said["decisions"]]  # fmt: skip
    return {"faults": before, "after": [one.sentence for one in Store.faults(own) if not one.is_harmless], "rows": rows}


def _copy_as_it_is(file: str, copy: str) -> None:
    """Copies what a bad example may hold: a file, a link, a pipe, or a hole of many gigabytes."""
    if Path(file).is_fifo():
        os.mkfifo(copy)
    elif Path(file).is_symlink() or _is_small_file(Path(file)):
        shutil.copy2(file, copy, follow_symlinks=False)
    else:
        Path(copy).touch()
        os.truncate(copy, Path(file).stat().st_size)


def update_with(bars: str, store: str) -> Any:
    return _update(store, bars)


def update_store(store: str, bars: str) -> Any:
    return _update(store, bars)


# ── what came of it ───────────────────────────────────────────────────────────────────────────────


def sound_bars(good: Any, bad: Any, done: str) -> str:
    return "" if bad["sound"] else "bars that are not finite, positive, in range and each once"


def sound_marks(good: Any, bad: Any, done: str) -> str:
    """Marks of bars that are 0 or 1, as many as there are bars."""
    sound = len(good["inside"]) == len(bad["inside"]) and set(bad["inside"]) <= {0.0, 1.0}
    return "" if sound else "marks that are not one of 0 and 1 for each bar"


def sound_rates(good: Any, bad: Any, done: str) -> str:
    """Rates a year that are none or numbers from 0 to 10."""
    sound = all(rate is None or (_is_number(rate) and 0 <= rate <= 10) for rate in bad["rates"])
    return "" if sound else "rates that are no numbers from 0 to 10"


def sound_units(good: Any, bad: Any, done: str) -> str:
    """Units that are finite numbers; a file without any is none that was read."""
    sound = bad["units"] and all(map(_is_number, bad["units"]))
    return "" if sound else "units that are no numbers, or nothing held by a file that says so nowhere"


def sound_core(good: Any, bad: Any, done: str) -> str:
    weights = bad["weights"].values()
    sound = all(_is_number(weight) for weight in weights) and sum(map(abs, weights)) <= 1 + 1e-9
    return "" if sound else "weights that are no numbers, or of more than 1"


def same_settings(good: Any, bad: Any, done: str) -> str:
    return "" if bad["same"] else "settings that do not read back as they are written"


def same_run(good: Any, bad: Any, done: str) -> str:
    changed = good != bad and "listed again" not in done
    return "another run than was saved, and nobody said so" if changed else ""


def no_hollow_position(good: Any, bad: Any, done: str) -> str:
    if bad["hollow"]:
        return f"a position on a forecast that is not there: {bad['hollow']}"
    changed = good["rows"] != bad["rows"] and "listed again" not in done
    return "other forecasts than those of the saved run, and nobody said so" if changed else ""


def said_if_fewer(good: Any, bad: Any, done: str) -> str:
    fewer = bad.get("trials", bad.get("openings")) < good.get("trials", good.get("openings"))
    return "fewer trials than there were, and nobody said so" if fewer and not bad["said"] else ""


def same_sessions(good: Any, bad: Any, done: str) -> str:
    return "" if bad == good else "other sessions than those of the calendar"


def same_or_again(good: Any, bad: Any, done: str) -> str:
    return "" if bad is None or bad == good else "another network than the one that was kept"


def same_store(good: Any, bad: Any, done: str) -> str:
    changed = bad["digest"] != good["digest"] and not bad["faults"]
    return "another store than was written, and its check says that it is whole" if changed else ""


def whole_after(good: Any, bad: Any, done: str) -> str:
    if bad["after"]:
        return f"the store is in pieces: {bad['after'][:3]}"
    hollow = [row for row in bad["rows"] if row["weight"] and not _is_number(row["expected_return_log"])]
    return f"a position on a forecast that is not there: {hollow}" if hollow else ""


SERVED = (
    "/", "/orders", "/risk", "/models", "/health", "/symbols/B1_0", "/health/ready", "/api/today", "/api/orders",
    "/api/symbols/B1_0/bars",
)  # fmt: skip


def serve_store(folder: str) -> Any:
    """What the service answers on a store: the status of each page and part of the API, and what it wrote."""
    import warnings
    from datetime import datetime

    from starlette.testclient import TestClient

    from gatecast.service.app import make_app

    files = {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.is_file()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        app = make_app(folder, now=datetime.fromisoformat(now_of("live_update")))
        client = TestClient(app, base_url="http://127.0.0.1")
        status = {path: client.get(path).status_code for path in SERVED}
    after = {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.is_file()}
    wrote = sorted(str(path) for path in files.keys() ^ after.keys())
    return {"status": status, "wrote": wrote, "same": files == after}


def answers_or_says_why(good: Any, bad: Any, done: str) -> str:
    odd = {path: status for path, status in bad["status"].items() if status not in (200, 404, 503)}
    return f"the service answered {odd}" if odd else "" if bad["same"] else f"the service wrote {bad['wrote']}"


def read_token_file(path: str) -> Any:
    from gatecast.service.security import read_token

    return {"token": read_token(Path(path))}


def long_enough(good: Any, bad: Any, done: str) -> str:
    return "" if len(bad["token"]) >= 16 else "a token that can be guessed was taken"


def same_decisions(good: Any, bad: Any, done: str) -> str:
    changed = bad["rows"] != good["rows"] and not bad["faults"]
    return "other decisions than those of the store, and its check says that it is whole" if changed else ""


READERS = (
    Reader("bars.csv", "bars", ("market.sources",), "bars.csv", read_bars, sound_bars, share=3),
    Reader("bars.parquet", "bars", ("market.sources",), "bars.parquet", read_bars, sound_bars, share=3),
    Reader("check", "bars", ("cli.check",), "bars.csv", check_bars, share=1),
    Reader("symbols", "bars", ("market.sources",), "symbols.csv", check_symbols, others=("bars.csv",)),
    Reader("splits", "bars", ("market.tables",), "splits.csv", check_splits, others=("bars.csv",)),
    Reader("actions", "bars", ("market.actions",), "actions.csv", check_actions, others=("bars.csv",)),
    Reader("weights", "bars", ("trading.core",), "weights.csv", read_core, sound_core, share=0.5),
    Reader("universe", "bars", ("market.universe",), "universe.csv", mark_bars, sound_marks, others=("bars.csv",)),
    Reader("loans", "bars", ("trading.terms",), "borrow.csv", read_loans, sound_rates, share=0.5),
    Reader("positions", "bars", ("live.positions",), "held.csv", read_held, sound_units, share=0.5),
    Reader("open orders", "bars", ("live.positions",), "open.csv", read_open, sound_units, share=0.5),
    Reader("fills", "bars", ("live.positions",), "fills.csv", read_filled, sound_units, share=0.5),
    Reader("forecasts", "bars", ("evaluation.outside",), "outside.csv", judge_table, others=("bars.csv",), share=0.5),
    Reader("settings", "settings", ("experiment", "settings"), "settings.toml", read_settings, same_settings),
    Reader("all settings", "settings", ("experiment",), "all_settings.toml", read_settings, same_settings, share=2),
    Reader("run", "runs", ("store",), "run", read_run, same_run, share=3),
    Reader("forecast", "runs", ("store", "live"), "run", forecast_run, no_hollow_position, others=("newest.csv",)),
    Reader("report", "runs", ("store", "report"), "run", report_run, share=0.5),
    Reader("unseal", "runs", ("studies.unseal",), "run", unseal_run, share=0.2, others=("newest.csv",)),
    Reader("ledger", "records", ("evaluation.ledger", "evaluation.on_file"), "data", read_ledger, said_if_fewer),
    Reader("one more trial", "records", ("evaluation.ledger",), "data", record_in_ledger, said_if_fewer),
    Reader("openings", "records", ("evaluation.holdout",), "data", read_openings),
    Reader("copies", "records", ("studies.placebo",), "copies.jsonl", read_copies),
    Reader("kept network", "records", ("forecasting.lstm.unfinished",), "kept", recall_network, same_or_again),
    Reader("store", "records", ("store", "cli.store"), "store", read_store, same_store, share=3),
    Reader("update", "bars", ("cli.kept",), "live_next.csv", update_with, whole_after, others=("live_update",)),
    Reader(
        "update a store", "records", ("live",), "live_update", update_store, same_decisions, others=("live_next.csv",)
    ),
    Reader("serve", "records", ("service",), "live_update", serve_store, answers_or_says_why, share=0.5),
    Reader("token", "settings", ("service.security",), "token.txt", read_token_file, long_enough, share=0.2),
    Reader("sessions", "records", ("market.sessions",), "sessions", read_sessions, same_sessions, share=0.5),
    Reader("studies", "records", ("forecasting.tuning.search",), "studies.db", open_studies, share=0.5),
)
CASES = {"runs": 300, "bars": 200, "settings": 250, "records": 220}
"""How many cases of each group a full attack makes."""


# ── one bad example ───────────────────────────────────────────────────────────────────────────────


def spoil(reader: Reader, examples: Path, place: Path, draw: Random) -> tuple[Path, str]:
    """A bad copy of a reader's good example in an empty folder; its path, and what was done to it."""
    place.mkdir(parents=True)
    canary = place / f"{CANARY}.txt"
    canary.write_text("nobody named this file")
    good, bad = examples / reader.good, place / reader.good
    if good.is_file():
        shutil.copyfile(good, bad)
        return bad, _spoil_file(bad, draw, canary)
    shutil.copytree(good, bad)
    done = []
    for _ in range(draw.choice((1, 1, 1, 2))):
        files = sorted(file for file in bad.rglob("*") if _is_small_file(file))
        if files:
            done.append(_spoil_file(draw.choice(files), draw, canary))
    if _is_small_file(bad / "manifest.json") and draw.random() < 0.7 and _list_again(bad):
        done.append("listed again")
    return bad, ", ".join(done)


def _is_small_file(file: Path) -> bool:
    """Whether this is still what it was: a regular file, and no link, pipe or file of 50 GB."""
    return not file.is_symlink() and file.is_file() and file.stat().st_size < 2**27


def _spoil_file(file: Path, draw: Random, canary: Path) -> str:
    if draw.random() < 0.07:
        return f"{file.name}: {irregular(file, draw, canary)}"
    change = mutation(file.suffix, draw)
    file.write_bytes(change(file.read_bytes(), draw))
    return f"{file.name}: {change.__name__}"


def _list_again(folder: Path) -> bool:
    """Brings the manifest of a run up to date with its parts, as whoever means harm would."""
    from gatecast.files import sha256_of

    manifest = folder / "manifest.json"
    try:
        listed = json.loads(manifest.read_bytes())
        for name, entry in listed["parts"].items():
            file = folder / name
            if _is_small_file(file):
                entry |= {"sha256": sha256_of(file), "bytes": file.stat().st_size}
        manifest.write_text(json.dumps(listed))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False
    return True
