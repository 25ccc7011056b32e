"""The command: what a user types, and what comes back on standard output, standard error and as exit status."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
from rich.console import Console

from attack.readers import SMALL_NETWORK
from gatecast.cli.app import app, execute
from gatecast.cli.options import core_count
from gatecast.cli.show import show_forecasts, show_run
from gatecast.compute.estimate import Cost
from gatecast.errors import SettingsError, TrainingError
from gatecast.experiment import Control, Experiment
from gatecast.machine import Machine
from gatecast.market import synthetic
from gatecast.market.reading import BarsSettings
from gatecast.report.words import decimals, percent, typeset
from gatecast.runs import Run
from gatecast.settings import words as words_of
from gatecast.store import chain_of, load_run
from gatecast.studies.capacity import capacity
from gatecast.trading.book import Book
from gatecast.trading.core import Core
from gatecast.trials import configuration

SMALL = f"""
name = "small"
{SMALL_NETWORK}
[model.forest]
trees = 5
[schedule]
refit = "1Y"
[book]
benchmark = "G1_1"
[book.size]
capital = 10000.0
participation = 1.0
"""


class Answer(NamedTuple):
    status: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def gatecast(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process."""

    def command(*words: object) -> Answer:
        capsys.readouterr()
        status = execute([str(word) for word in words])
        return Answer(status, *capsys.readouterr())

    return command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def plain_table(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars as a vendor would give them."""
    day = pl.col("time").dt.date().alias("Date")
    return bars.select(day, pl.col("symbol").alias("Ticker"), "open", "high", "low", "close", "volume")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """small.toml; bars.csv, three and a half years of two symbols; newest.csv, the same and one day more."""
    folder = tmp_path_factory.mktemp("files")
    table = plain_table(synthetic.g1(900, seed=2, symbols=2))
    table.write_csv(folder / "newest.csv")
    table.filter(pl.col("Date") < table["Date"].max()).write_csv(folder / "bars.csv")
    (folder / "small.toml").write_text(SMALL, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made by the command, in a process of its own."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    environment = {**os.environ, "GATECAST_DATA": str(folder.parent / "ledger"), "PYTHONIOENCODING": "ascii"}
    words = ["run", data / "small.toml", "--bars", data / "bars.csv", "--out", folder, "--jobs", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "gatecast.cli", *map(str, words)],
        capture_output=True, cwd=folder.parent, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    (folder.parent / "out.txt").write_bytes(done.stdout)
    (folder.parent / "err.txt").write_bytes(done.stderr)
    return folder


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch, gatecast: Command) -> Callable[..., Experiment]:
    """The Experiment that a command line means; it is not run."""
    seen: list[Experiment] = []

    def record(experiment: Experiment, machine: Machine, **_: Any) -> None:
        assert machine.jobs == (2 if experiment.name == "n" else core_count())
        seen.append(experiment)
        raise KeyboardInterrupt

    monkeypatch.setattr("gatecast.runs.run", record)

    def settings(*words: object) -> Experiment:
        assert gatecast("run", *words).status == 130
        return seen[-1]

    return settings


# ── start-up, help, wrong words ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("module", ["gatecast", "gatecast.cli"])
def test_importing_the_command_loads_nothing_heavy(module: str) -> None:
    heavy = ("torch", "sklearn", "arch", "polars", "numpy", "scipy", "plotly", "numba", "pandas")
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_and_version(gatecast: Command) -> None:
    for words in ((), ("--help",)):
        answer = gatecast(*words)
        assert answer.status == 0
        assert all(name in answer.out for name in ("run", "init", "check", "forecast", "report"))
    answer = gatecast("run", "--help")
    options = ("--bars", "--symbols", "--symbols-file", "--asset-class", "--timezone", "--stamp", "--resample")
    options += ("--start", "--end", "--horizon", "--lookback", "--seed", "--seeds", "--refit", "--train", "--expanding")
    assert all(option in answer.out for option in (*options, "--name", "--jobs", "--out", "--json", "--quiet"))
    assert gatecast("--version").out.startswith("gatecast 0.")
    about = json.loads(gatecast("--version", "--json").out)
    here = {"python": platform.python_version(), "machine": platform.machine()}
    assert about == {"gatecast": gatecast("--version").out.split()[1], **here}
    answer = gatecast("--json")
    assert answer.status == 2
    assert "--json belongs after the command" in answer.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rnu",), "Did you mean 'run'?"),
        (("run", "--horizn", "3"), "--horizon"),
        (("run", "--horizon", "many"), "valid integer"),
        (("run", "--horizon", "50"), "horizon = 50: input should be less than or equal to 22"),
        (("run", "--lookback", "5"), "greater than or equal to 10"),
        (("run", "--stamp", "middle"), "'open' or 'close'"),
        (("run", "--refit", "monthly"), "'monthly'"),
        (("run", "--symbols", "FOO"), "no bars of 'FOO'"),
        (("run", "absent.toml"), "absent.toml"),
        (("run", "--bars", "absent.csv"), "absent.csv"),
        (("run", "--symbols-file", "absent.csv"), "absent.csv"),
        (("run", "--start", "yesterday"), "'yesterday'"),
        (("check",), "Missing argument"),
        (("check", "absent.csv"), "absent.csv"),
        (("forecast", "absent", "--bars", "absent.csv"), "no gatecast run"),
        (("report", "absent"), "no gatecast run: there is no such folder"),
        (("run", "--out", "a" * 5000), "(5,000 characters) cannot be used: File name too long."),
        (("run", "--out", "a" * 250), "File name too long"),
        (("cadence", "--out", "a" * 5000), "File name too long"),
        (("report", "a" * 5000), "File name too long"),
        (("init", "a" * 5000), "File name too long"),
        (("run", "--out", "~nobody-of-this-name/r"), "has no home folder here"),
        (("tune", "--out", "~nobody-of-this-name/r"), "has no home folder here"),
        (("report", "~nobody-of-this-name/r"), "has no home folder here"),
        (("init", "~nobody-of-this-name/r"), "has no home folder here"),
        (("report", "."), "no gatecast run"),
    ],
)
def test_a_fault_of_the_user_is_one_message(
    gatecast: Command, here: Path, words: tuple[str, ...], message: str
) -> None:
    answer = gatecast(*words)
    assert answer.status == 2
    assert answer.err.startswith("error: ")
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lookbak = 3", "unknown setting 'lookbak'. Did you mean 'lookback'?"),
        ("[schedule]\ntrian = '2Y'", "Did you mean 'train'?"),
        ("horizon = 'five'", "horizon = 'five'"),
        ("[lstm", "no TOML"),
        ("models = ['lstn']", "Did you mean 'lstm'?"),
        ("[model.lstm]\nunits = 8", "units = 8"),
    ],
)
def test_a_fault_in_the_settings_is_one_message(gatecast: Command, here: Path, text: str, message: str) -> None:
    (here / "bad.toml").write_text(text, encoding="utf-8")
    answer = gatecast("run", "bad.toml", "--json")
    assert answer.status == 2
    assert answer.err.startswith("error: ")
    assert message in answer.err
    told = json.loads(answer.out.splitlines()[-1])
    assert message in told["error"]
    assert told["kind"] == "SettingsError"
    assert [path.name for path in here.iterdir()] == ["bad.toml"]


def test_too_short_a_history_is_told_before_any_work(gatecast: Command, here: Path) -> None:
    plain_table(synthetic.a1(150, seed=1)).write_csv(here / "short.csv")
    answer = gatecast("run", "--bars", "short.csv")
    assert answer.status == 2
    assert "150 bars" in answer.err
    assert "needed" in answer.err
    assert [path.name for path in here.iterdir()] == ["short.csv"]


def test_a_place_that_is_taken_is_told_before_any_work(
    gatecast: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "thesis.txt").write_text("years")
    monkeypatch.setattr("gatecast.runs.run", lambda *_, **__: pytest.fail("it ran"))
    answer = gatecast("run", "--out", here)
    assert answer.status == 2
    assert "no gatecast run" in answer.err


def test_an_interruption_while_an_error_is_said_is_no_fault(gatecast: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gatecast.cli.app.complain", interrupted)
    answer = gatecast("run", "--no-such-option")
    assert (answer.status, answer.err) == (130, "")


def test_an_interruption_before_the_command_is_imported_ends_it_without_a_word() -> None:
    code = """
import signal, sys
class Asked:
    def find_spec(self, name, *_):
        if name == "gatecast.cli.app":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Asked())
from gatecast.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_an_interruption_is_one_line(gatecast: Command, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gatecast.runs.run", interrupted)
    answer = gatecast("run")
    assert answer.status == 130
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("error: interrupted. 0 networks kept in ")
    assert list(here.iterdir()) == []


def test_what_a_message_quotes_cannot_steer_the_terminal(
    gatecast: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explodes(*_: Any, **__: Any) -> None:
        raise TrainingError("\x1b[2Jsymbol \x07[bold]A[/bold]\u202e")

    monkeypatch.setattr("gatecast.runs.run", explodes)
    assert gatecast("run").err == "error: \\x1b[2Jsymbol \\x07[bold]A[/bold]\\u202e\n"


# ── init, and what a command line means ───────────────────────────────────────────────────────────


def test_init_writes_settings_that_read_back(gatecast: Command, here: Path) -> None:
    assert gatecast("init").status == 0
    assert Experiment.from_toml(here / "gatecast.toml") == Experiment()
    (here / "gatecast.toml").write_text("mine", encoding="utf-8")
    assert gatecast("init").status == 2
    assert (here / "gatecast.toml").read_text(encoding="utf-8") == "mine"
    assert gatecast("init", "--force").status == 0
    assert Experiment.from_toml(here / "gatecast.toml") == Experiment()
    assert gatecast("init", here / "absent" / "x.toml").status == 2


def test_without_settings_or_bars_a_planted_market_runs_beside_the_embedded_one(
    settings_of: Callable[..., Experiment], here: Path
) -> None:
    experiment = settings_of()
    assert experiment.bars.source == "embedded"
    assert experiment.name == "embedded"
    assert experiment.control == Control()
    assert settings_of("--horizon", 3).control == Control()
    assert settings_of("--bars", "my bars.csv").control is None
    assert settings_of("--bars", "my bars.csv").name == "my bars"


def test_options_become_settings(settings_of: Callable[..., Experiment], here: Path) -> None:
    words = "--symbols A,B --symbols-file s.csv --asset-class fx --timezone Europe/Berlin --stamp open --resample 1w"
    words += " --start 2001-01-01 --end 2010-12-31 --horizon 3 --lookback 20 --seed 5 --seeds 2 --refit 21 --train 1Y"
    experiment = settings_of("--bars", "x.csv", *words.split(), "--expanding", "--name", "n", "--jobs", 2)
    bars = experiment.bars
    assert (bars.source, bars.symbols, bars.symbols_file, bars.asset_class) == ("x.csv", ("A", "B"), "s.csv", "fx")
    assert (bars.timezone, bars.stamp, bars.resample) == ("Europe/Berlin", "open", "1w")
    assert (bars.start, bars.end) == ("2001-01-01", "2010-12-31")
    assert (experiment.horizon, experiment.lookback, experiment.seed, experiment.network.seeds) == (3, 20, 5, 2)
    assert (experiment.schedule.refit, experiment.schedule.train, experiment.schedule.expanding) == (21, "1Y", True)
    assert experiment.name == "n"  # with the cores asked for, see `settings_of`


@pytest.mark.parametrize("command", ["run", "check", "audit", "placebo", "tune", "cadence", "forecast"])
def test_every_setting_of_bars_is_an_option_with_its_words(gatecast: Command, command: str) -> None:
    left_out = {"source", "frame"} | ({"start", "end", "as_of"} if command == "forecast" else set())
    told = " ".join(re.sub(r"[^\x20-\x7e]", " ", gatecast(command, "--help").out).split()).lower()
    for name, field in BarsSettings.model_fields.items():
        if name not in left_out:
            assert f"--{name.replace('_', '-')} " in told
            assert words_of(field).split(";")[0].lower()[:30] in told


def test_lists_pairs_and_false_are_read_from_text(settings_of: Callable[..., Experiment], here: Path) -> None:
    words = ("--columns", "a, b", "--known-at", "a=16d,b=published", "--splits", "false", "--scale", "0.5")
    bars = settings_of("--bars", "x.csv", *words).bars
    assert (bars.columns, bars.known_at) == (("a", "b"), {"a": "16d", "b": "published"})
    assert (bars.splits, bars.scale) == (False, 0.5)


def test_prices_are_scaled_by_an_option_of_every_command_that_reads_bars(gatecast: Command, data: Path) -> None:
    assert gatecast("check", data / "bars.csv", "--asset-class", "index", "--scale", "0.01").status == 0
    refused = gatecast("check", data / "bars.csv", "--scale", "much")
    assert refused.status == 2
    assert "a number" in refused.err


def test_bars_too_long_for_the_file_are_refused(gatecast: Command, data: Path) -> None:
    refused = gatecast("check", data / "bars.csv", "--asset-class", "index", "--resample", "10y")
    assert (refused.status, "no period" in refused.err) == (2, True)


def test_options_win_over_the_file_and_the_file_over_defaults(
    settings_of: Callable[..., Experiment], data: Path, here: Path
) -> None:
    experiment = settings_of(data / "small.toml", "--horizon", 2, "--seeds", 4)
    assert (experiment.horizon, experiment.network.seeds) == (2, 4)
    assert (experiment.name, experiment.network.units, experiment.schedule.refit) == ("small", 16, "1Y")
    assert experiment.control is None
    assert experiment.schedule.expanding is False


# ── run, report, forecast ─────────────────────────────────────────────────────────────────────────


def test_run_writes_the_folder_and_says_the_verdict(finished: Path) -> None:
    out = (finished.parent / "out.txt").read_text(encoding="ascii")  # whatever the encoding of the terminal
    run = load_run(finished)
    assert run.scores["summary"]["headline"] in out
    for head in ("return", "direction", "volatility", "regime", "strategy", "risk"):
        assert f"{head} " in out
    assert f"risk: The book's risk cannot be judged: it has {len_of_book(run)} sessions, 250 are needed." in out
    assert f"equity {len(run.scores['folds'])}" in out
    assert "report.html" in out
    assert (finished / "report.html").read_text(encoding="utf-8").lstrip().startswith("<!doctype html>")
    assert [path.name for path in finished.parent.iterdir() if path.is_dir() and path != finished] == ["ledger"]
    assert "\x1b" not in out + (finished.parent / "err.txt").read_text()


def test_the_same_command_gives_the_same_forecasts_on_any_number_of_cores(
    gatecast: Command, finished: Path, data: Path, here: Path
) -> None:
    answer = gatecast("run", data / "small.toml", "--bars", data / "bars.csv", "--jobs", 2, "--json")
    assert answer.status == 0
    assert len(answer.out.splitlines()) == 1
    told = json.loads(answer.out)
    assert Path(told["path"]) == (here / "runs" / "small").resolve()
    assert Path(told["report"]).is_file()
    assert told["verdicts"].keys() == {"return", "direction", "volatility", "regime", "strategy", "risk"}
    assert {"verdict", "effect", "low", "high", "test", "pvalue", "n", "trials"} <= told["verdicts"]["return"].keys()
    same = here / "runs" / "small" / "forecasts.parquet"
    assert same.read_bytes() == (finished / "forecasts.parquet").read_bytes()
    assert "Time: " in answer.err  # the summary is not lost
    bars = len(pl.read_csv(data / "bars.csv"))
    assert told["cost"]["bars_per_second"] == pytest.approx(bars / told["seconds"], rel=0.1)
    assert told["cost"]["peak_memory_bytes"] > 50e6
    memory = r"\d+\.\d\d GB of memory at most in the main process"
    assert re.search(rf"{bars:,} bars of 2 symbols: {memory}, [\d.,]+ bars a second", answer.err)
    cost = json.loads((here / "runs" / "small" / "provenance.json").read_text())["cost"]
    assert 0 < cost["seconds"] <= told["seconds"]
    assert "cost" not in json.loads((here / "runs" / "small" / "scores.json").read_text())  # which never changes


def test_the_work_and_the_time_left_are_told(finished: Path) -> None:
    lines = (finished.parent / "err.txt").read_text().splitlines()
    run = load_run(finished)
    refits = len(run.scores["folds"])
    assert lines[0].startswith(f"equity: {len(run.bars):,} bars of 2 symbols, {refits} refit")
    assert "a guess until fits are timed" in lines[0]
    fits = f"{refits} fit{'s' * (refits != 1)}"
    assert [line.split(";")[0] for line in lines[1:]] == [
        f"equity: forest: {fits} done", f"equity: logistic: {fits} done",
        f"equity: lstm: {fits} done", "equity: ensemble: combined",
    ]  # fmt: skip
    assert all(line.endswith(" left") for line in lines[1:])


def test_quiet_says_nothing(gatecast: Command, data: Path, here: Path) -> None:
    answer = gatecast("run", data / "small.toml", "--bars", data / "bars.csv", "--quiet", "--horizon", 2, "--out", "x")
    assert answer == (0, "", "")
    assert load_run(here / "x").forecasts["step"].max() == 2


CHEAP = """
name = "cheap"
models = ["ridge", "logistic", "forest"]
signals = {model = "ridge"}
model = {forest = {trees = 3}}
schedule = {refit = "1Y"}
"""


def test_a_run_that_is_replaced_is_named_with_the_way_back(gatecast: Command, data: Path, here: Path) -> None:
    (here / "cheap.toml").write_text(CHEAP)
    words = ("run", "cheap.toml", "--bars", data / "bars.csv", "--jobs", 1, "--quiet", "--json")
    first = gatecast(*words)
    assert json.loads(first.out.splitlines()[-1])["replaced"] is None
    assert "previous" not in first.err
    same = gatecast(*words)
    place = (here / "runs" / "cheap").resolve()
    assert f"The run that was in {place} before is now in {place}.previous" in same.err
    other = gatecast(*words, "--horizon", 2)
    assert f"The run that was in {place} before (other settings) is now in" in other.err
    told = json.loads(other.out.splitlines()[-1])["replaced"]
    assert "To go back, move cheap elsewhere and rename cheap.previous to cheap." in told
    assert load_run(f"{place}.previous").experiment.horizon == 5
    newer = gatecast(*words, "--horizon", 2, "--start", "2000-06-01")
    assert "(other settings and other bars)" in newer.err


def test_a_page_that_cannot_be_written_costs_neither_verdict_nor_status(
    gatecast: Command, data: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "cheap.toml").write_text(CHEAP)
    rename = os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target).name == "report.html":
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "replace", full)
    answer = gatecast("run", "cheap.toml", "--bars", data / "bars.csv", "--jobs", 1, "--json")
    assert answer.status in (0, 3)
    told = json.loads(answer.out.splitlines()[-1])
    assert told["report"] is None
    assert told["verdicts"]
    assert "report.html cannot be written: No space left on device. The run itself is saved" in answer.err
    assert "`gatecast report runs/cheap` draws the page" in answer.err.replace(str(here) + "/", "")
    assert load_run(told["path"]).scores["verdicts"] == told["verdicts"]
    drawn = gatecast("report", told["path"])
    assert drawn.status == 2
    assert "The run itself is saved" in drawn.err


def test_a_file_as_run_is_refused(gatecast: Command, data: Path) -> None:
    answer = gatecast("forecast", data / "bars.csv", "--bars", data / "bars.csv")
    assert answer.status == 2
    assert "bars.csv is a file: give the folder of a run" in answer.err


def test_the_package_is_the_command() -> None:
    told = subprocess.run([sys.executable, "-m", "gatecast", "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("gatecast ")


def len_of_book(run: Run) -> int:
    sessions: int = run.scores["book"]["lines"][0]["sessions"]
    return sessions


def test_the_verdict_on_screen_quotes_control_and_money(finished: Path) -> None:
    run = load_run(finished)
    said = {name: f"{name.title()}: cannot tell." for name in ("forecast", "control", "money", "shortfall")}
    answers = {name: {"sentence": one} for name, one in said.items()}
    risk = {**run.verdicts["risk"], "effect": 0.01, "sentence": " ".join(said.values()), **answers}
    judged = replace(run, scores={**run.scores, "verdicts": {**run.verdicts, "risk": risk}})
    screen = io.StringIO()
    show_run(judged, None, Cost(1.0, None, 1.0), Console(file=screen, width=200))
    lines = screen.getvalue().splitlines()
    first = lines.index(said["control"])
    assert lines[first + 1] == said["money"]
    assert not {said["forecast"], said["shortfall"]} & {*lines}
    assert [line.strip() for line in judged.summary().splitlines() if line.strip() in said.values()] == [*said.values()]
    assert "<br>".join(said.values()) in judged._repr_html_()


def test_the_planted_market_is_named_with_what_it_is(finished: Path) -> None:
    run, screen = load_run(finished), io.StringIO()
    verdicts = {"return": {"verdict": "evidence of skill"}, "strategy": {"verdict": "cannot tell"}}
    control = {"name": "B1", "verdicts": verdicts, "sentence": "The same chain on a simulated market."}
    both = replace(run, scores={**run.scores, "control": control})
    show_run(both, None, Cost(1.0, None, 1.0), Console(file=screen, width=90))
    line = "Planted market B1, beside it: evidence of skill in return. The same chain on a simulated market."
    assert line in screen.getvalue().splitlines()


def test_the_report_is_drawn_again_from_the_folder(gatecast: Command, finished: Path) -> None:
    page = finished / "report.html"
    first = page.read_bytes()
    page.unlink()
    answer = gatecast("report", finished)
    assert answer.status == 0
    assert answer.out.strip() == str(page)
    assert page.read_bytes() == first  # nothing in it came from memory alone
    shown, book = first.decode(), load_run(finished).scores["book"]
    assert shown.count('data-figure="book"') == 1
    for line in book["lines"]:
        volatility, turnover = percent(line["volatility"]), decimals(line.get("turnover"))
        assert re.search(rf"<td>{line['title']}</td>.*{volatility}</td>.*>{turnover}</td>", shown)
    price = (
        load_run(finished)
        .bars.filter(pl.col("symbol") == "G1_1")["close"]
        .to_numpy()[-len_of_book(load_run(finished)) :]
    )
    assert book["curve"]["benchmark"] == pytest.approx((10_000 * price / price[0]).tolist())
    theirs = book["lines"][-1]
    assert (theirs["title"], theirs["return"]) == (
        "G1_1, your benchmark",
        pytest.approx((price[-1] / price[0]) ** (1 / theirs["years"]) - 1),
    )
    today = book["risk"]["today"]
    assert today["day"] == book["curve"]["day"][-1]
    assert today["gross"] > 0
    assert typeset(f"line holds {percent(today['gross'], 0)} of its equity") in shown
    assert len({len(values) for values in book["curve"].values()}) == 1
    assert set(book["curve"]) == {"day", "cash", *(line["line"] for line in book["lines"])}
    strategy = load_run(finished).verdicts["strategy"]
    assert strategy["rival"] == "the core alone"
    assert strategy["sentence"].startswith("No strategy had evidence, so that nothing was added to the core")
    risk = load_run(finished).verdicts["risk"]
    assert risk["shortfall"]["sentence"].startswith("Shortfall: cannot be judged, all methods say the tails of ")
    assert book["risk"]["tails"] == {}


def test_the_book_is_run_again_at_other_costs_and_with_other_money(gatecast: Command, finished: Path) -> None:
    answer = gatecast("capacity", finished, *("--costs", 0, "--costs", 1), "--capital", "1e9", "--jobs", 1, "--json")
    assert answer.status == 0
    found, book = json.loads(answer.out), load_run(finished).scores["book"]
    assert found["since"] == book["curve"]["day"][0]
    free, as_it_is = found["costs"]
    own = next(line for line in book["lines"] if line["line"] == "ensemble")
    for name, other in (("result", "return"), ("sharpe", "sharpe"), ("cost", "cost"), ("turnover", "turnover")):
        assert as_it_is[name] == own[other]
    assert free["cost"] == 0 < as_it_is["cost"]
    (rich,) = found["capital"]
    assert rich["capital"] == 1e9
    assert rich["gross"] < 0.01 < as_it_is["gross"]  # volume keeps much money out


def test_a_benchmark_that_the_bars_do_not_have_is_refused_before_any_work(
    gatecast: Command, data: Path, here: Path
) -> None:
    (here / "other.toml").write_text(SMALL.replace('benchmark = "G1_1"', 'benchmark = "G1_2"'))
    refused = gatecast("run", here / "other.toml", "--bars", data / "bars.csv", "--out", here / "none")
    assert refused.status == 2
    assert "book.benchmark: the bars have no symbol 'G1_2'" in refused.err
    assert not (here / "none").exists()


def test_a_benchmark_is_no_other_trial() -> None:
    plain, compared = Experiment(), Experiment(book=Book(benchmark="SPY"))
    assert configuration(compared) == configuration(plain)
    small = {"size": {"capital": 5.0}}
    assert configuration(Experiment(book=small)) == configuration(Experiment(book={**small, "benchmark": "SPY"}))
    assert configuration(Experiment(book=small)) != configuration(plain)
    assert Book(benchmark="SPY").with_file_read().benchmark == "SPY"


def test_capacity_needs_a_book_and_numbers_in_range(gatecast: Command, finished: Path, here: Path) -> None:
    run = load_run(finished)
    chain, without = chain_of(run), run.experiment.replace(book=Book(core=Core(kind="none")))
    with pytest.raises(SettingsError, match="this run has no book: its core is empty"):
        capacity(without, chain)
    with pytest.raises(SettingsError, match="costs from 0 to 100; got nan"):
        capacity(run.experiment, chain, costs=[float("nan")])
    with pytest.raises(SettingsError, match="capital"):
        capacity(run.experiment, chain, costs=[1.0], capitals=[-5.0])
    assert gatecast("capacity", here / "nowhere").status == 2


def test_forecast_speaks_about_the_newest_bar(gatecast: Command, finished: Path, data: Path) -> None:
    newest = pl.read_csv(data / "newest.csv")["Date"].max()
    answer = gatecast("forecast", finished, "--bars", data / "newest.csv", "--json")
    assert answer.status == 0
    rows = json.loads(answer.out.splitlines()[-1])["forecasts"]
    assert [row["symbol"] for row in rows] == ["G1_0", "G1_1"]
    for row in rows:
        assert row["time"].startswith(str(newest))
        assert 0 < row["probability_up"] < 1
        assert row["volatility"] > 0
        assert len(row["path"]) == len(row["sigma_path"]) == 5
        assert row["signal"] in (-1, 0, 1)
        assert row["strategy"]
        assert row["reason"]
    shown = gatecast("forecast", finished, "--bars", data / "newest.csv")
    assert shown.status == 0
    assert all(f"{row['symbol']} " in shown.out and row["reason"] in shown.out for row in rows)


def test_the_help_of_a_command_breaks_no_line_within_a_paragraph() -> None:
    for command in app.registered_commands:
        assert command.help
        assert "\n" not in command.help.replace("\n\n", " "), command.help


ROW = {
    "symbol": "A1", "current": True, "newest_bar": "2020-01-03", "today": "", "base_rate_up": 0.55,
    "probability_beyond_base_rate": True, "probability_up": 0.6, "expected_return_log": 0.01,
    "beyond_base_rate": True, "standard_deviation": 0.02, "intervals": [], "regime_probability": 0.1, "signal": 1,
    "consensus": False, "z": 1.5, "strategy_title": "held long, sized by volatility", "weight": 0.5, "book": 0.25,
    "signal_title": "LSTM", "notes": [], "reason": "", "end": "",
}  # fmt: skip


def test_forecasts_on_a_narrow_terminal_are_lines_of_name_and_value() -> None:
    for width in (60, 200):
        text = io.StringIO()
        show_forecasts([ROW, ROW | {"symbol": "B1"}], [], Experiment(), Console(file=text, width=width))
        lines = text.getvalue().splitlines()
        assert ("  strategy: held long, sized by volatility" in lines) == (width == 60)
        assert ("  P(rise): 60.0% (base rate 55.0%)" in lines) == (width == 60)
        assert ("symbol: B1" in lines) == (width == 60)


@pytest.mark.parametrize(("confirmed_by", "said"), [("forest", "bullish, consensus"), ("ridge", "bullish")])
def test_a_consensus_takes_a_second_model(confirmed_by: str, said: str) -> None:
    few = {"models": ("ridge", "forest"), "signals": {"model": "ridge", "confirmed_by": confirmed_by}}
    text = io.StringIO()
    show_forecasts([ROW | {"consensus": True}], [], Experiment().replace(**few), Console(file=text, width=60))
    assert f"  LSTM signal: {said}" in text.getvalue().splitlines()


def test_audit_says_what_it_checked(gatecast: Command, data: Path, here: Path) -> None:
    (here / "cheap.toml").write_text(CHEAP)
    words = ("--start", "2001-06-01", "--symbols", "G1_0", "--quick", "--json")
    answer = gatecast("audit", "cheap.toml", "--bars", data / "bars.csv", *words)
    assert answer.status == 0, answer.err
    told = json.loads(answer.out.splitlines()[-1])
    assert told["findings"] == []
    assert told["checked"]
    assert told["not_checked"]


def test_cadence_compares_on_the_same_rows_and_draws_a_page(gatecast: Command, data: Path, here: Path) -> None:
    words = ("cadence", data / "small.toml", "--bars", data / "bars.csv", "--seeds", "1", "--jobs", "1")
    answer = gatecast(*words, "--out", here / "page.html", "--json")
    assert answer.status == 0, answer.err
    told = json.loads(answer.out.splitlines()[-1])
    assert list(told["costs"]) == ["monthly", "quarterly", "yearly", "never", "monthly_warm"]
    assert told["costs"]["never"]["fits"] == told["seeds"] == 1
    assert {one["days"] for one in told["differences"]} == {told["days"]}
    assert any("2 symbol" in note for note in told["notes"])
    assert told["sentences"]["volatility"] in (here / "page.html").read_text(encoding="utf-8").replace("&#x27;", "'")
    for place in (here, here / "missing" / "page.html"):
        refused = gatecast(*words, "--out", place)
        assert refused.status == 2
        assert "cannot be written" in refused.err


def test_forecast_starts_without_what_it_does_not_need(finished: Path, data: Path) -> None:
    heavy = ("torch", "sklearn", "arch", "pandas", "plotly", "statsmodels", "joblib", "optuna")
    words = ["gatecast", "forecast", str(finished), "--bars", str(data / "newest.csv"), "--json"]
    code = (
        f"import sys\nfrom gatecast import cli\nsys.argv = {words!r}\ntry:\n    cli.main()\n"
        f"except SystemExit as ended:\n    print(ended.code, [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_an_interrupted_run_is_taken_up(
    gatecast: Command, data: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gatecast.forecasting.lstm import forecaster

    train, done = forecaster.train_network, []

    def twice(*arguments: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return train(*arguments)

    monkeypatch.setattr(forecaster, "train_network", twice)
    words = ("run", data / "small.toml", "--bars", data / "bars.csv", "--jobs", 1, "--refit", "2M")
    answer = gatecast(*words)
    assert answer.status == 130
    kept = here / "runs" / "small.unfinished"
    assert f"2 networks kept in {kept}" in answer.err or "2 networks kept in runs" in answer.err
    monkeypatch.setattr(forecaster, "train_network", train)
    answer = gatecast(*words)
    assert answer.status == 0
    assert f"2 networks of an interrupted run are kept in {kept.relative_to(here)}" in answer.err
    assert not kept.exists()
    assert gatecast(*words, "--out", "whole").status == 0
    resumed, whole = (folder / "forecasts.parquet" for folder in (here / "runs" / "small", here / "whole"))
    assert resumed.read_bytes() == whole.read_bytes()


def test_forecast_takes_the_symbols_that_the_run_took(gatecast: Command, data: Path, here: Path) -> None:
    table = pl.read_csv(data / "newest.csv")
    one = ("--symbols", "G1_1", "--out", "one", "--quiet")
    assert gatecast("run", data / "small.toml", "--bars", data / "bars.csv", *one).status == 0
    table.filter(pl.col("Ticker") == "G1_1").drop("Ticker").write_csv(here / "today.csv")
    for file in (data / "newest.csv", here / "today.csv"):  # one of two; and one without a name
        (row,) = json.loads(gatecast("forecast", "one", "--bars", file, "--json").out)["forecasts"]
        assert row["symbol"] == "G1_1"
        assert row["time"].startswith(str(table["Date"].max()))
        assert row["warnings"] == [f"equity: the newest bar is of {row['time'][:10]} 20:00 UTC, more than 10 days old."]


def test_forecast_is_strict_on_request_and_says_what_is_wrong_with_the_bars(
    gatecast: Command, finished: Path, data: Path, here: Path
) -> None:
    table = pl.read_csv(data / "newest.csv")
    days = table["Date"].unique().sort()
    now = ("--now", f"{days[-1]}T23:00")

    def forecast(rows: pl.DataFrame, *words: str) -> tuple[int, dict[str, Any]]:
        rows.write_csv(here / "now.csv")
        answer = gatecast("forecast", finished, "--bars", here / "now.csv", "--json", "--strict", *words)
        return answer.status, json.loads(answer.out.splitlines()[-1])

    status, told = forecast(table, *now)
    assert (status, told["data_problems"], told["new_symbols"], told["sound"]) == (0, [], [], True)
    first = pl.col("Ticker") == "G1_0"
    price = pl.when(first & (pl.col("Date") == days[-40])).then(pl.col("close") * 1.0001).otherwise("close")
    cases = {
        "missing": table.filter(first),
        "revised": table.with_columns(close=price),
    }
    for kind, rows in cases.items():
        status, told = forecast(rows, *now)
        assert status == 1, kind
        assert kind in {one["kind"] for one in told["data_problems"]}
        assert gatecast("forecast", finished, "--bars", here / "now.csv", *now).status == 0
    status, told = forecast(table)  # by the clock the bars are decades old
    assert (status, [one["kind"] for one in told["data_problems"]]) == (1, ["stale"])
    strange = pl.concat([table, table.filter(first).with_columns(Ticker=pl.lit("NEW"))])
    status, told = forecast(strange, *now)
    assert (status, told["new_symbols"]) == (0, ["NEW"])
    assert gatecast("forecast", finished, "--bars", here / "now.csv", "--now", "soon").status == 2


def test_forecast_drops_nothing_in_silence(gatecast: Command, finished: Path, data: Path, here: Path) -> None:
    table = pl.read_csv(data / "newest.csv")
    days = table["Date"].unique().sort()
    now = ("--now", f"{days[-1]}T23:00")
    newest = (pl.col("Ticker") == "G1_0") & (pl.col("Date") == days[-1])
    prices = [name for name in table.columns if name.lower() in ("open", "high", "low", "close")]
    after = table.filter(newest).with_columns(Date=pl.lit("2135-01-03").cast(table.schema["Date"]))
    cases = {
        "missing price": table.with_columns(close=pl.when(newest).then(None).otherwise("close")),
        "newest without price": table.with_columns(
            pl.when(newest).then(None).otherwise(name).alias(name) for name in prices
        ),
        "unfinished": pl.concat([table, after]),
    }
    cases["newest without price, the newest first"] = cases["newest without price"].reverse()
    for why, rows in cases.items():
        rows.write_csv(here / "holed.csv")
        answer = gatecast("forecast", finished, "--bars", here / "holed.csv", "--json", "--strict", *now)
        told = json.loads(answer.out.splitlines()[-1])
        assert answer.status == 1, why
        (problem,) = told["data_problems"]
        assert (problem["kind"], problem["symbols"]) == ("left out", ["G1_0"]), why
        assert why.split(",")[0] in problem["sentence"]
        assert problem["sentence"] in told["warnings"]
        shown = " ".join(gatecast("forecast", finished, "--bars", here / "holed.csv", *now).out.split())
        assert f"warning: {problem['sentence']}" in shown
    old = (pl.col("Ticker") == "G1_0") & (pl.col("Date") == days[-30])
    table.with_columns(pl.when(old).then(None).otherwise(name).alias(name) for name in prices).write_csv(
        here / "old.csv"
    )
    told = json.loads(gatecast("forecast", finished, "--bars", here / "old.csv", "--json", *now).out)
    assert "left out" not in {one["kind"] for one in told["data_problems"]}


def test_a_run_of_one_symbol_names_a_new_one(gatecast: Command, data: Path, here: Path) -> None:
    table = pl.read_csv(data / "newest.csv")
    first = pl.col("Ticker") == "G1_0"
    pl.read_csv(data / "bars.csv").filter(first).write_csv(here / "alone.csv")
    (here / "alone.toml").write_text(SMALL.replace('benchmark = "G1_1"', ""))
    words = ("--out", "alone", "--quiet")
    assert gatecast("run", here / "alone.toml", "--bars", here / "alone.csv", *words).status == 0
    table.write_csv(here / "both.csv")
    table.write_parquet(here / "both.parquet")
    for file in ("both.csv", "both.parquet"):
        told = json.loads(gatecast("forecast", "alone", "--bars", here / file, "--json").out)
        assert told["new_symbols"] == ["G1_1"], file
        assert any("'G1_1' is not in the run and left out" in said for said in told["warnings"])
        assert [row["symbol"] for row in told["forecasts"]] == ["G1_0"]


def test_forecast_names_both_weights_and_shows_a_silent_symbol(
    gatecast: Command, finished: Path, data: Path, here: Path
) -> None:
    table = pl.read_csv(data / "newest.csv")
    kept = (pl.col("Ticker") == "G1_0") | (pl.col("Date") < table["Date"].max())
    table.filter(kept).write_csv(here / "late.csv")
    shown = " ".join(gatecast("forecast", finished, "--bars", here / "late.csv").out.split())
    for words in ("Position alone:", "bars, close", "LSTM z", "no bar today", "The strategies' positions"):
        assert words in shown, words


def test_a_light_start_still_reads_frames_of_pandas() -> None:
    code = (
        "from gatecast.cli.app import start_light; start_light(); import pandas, polars;"
        "print(polars.from_pandas(pandas.DataFrame({'a': [1, 2]}))['a'].sum())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3"]


def test_forecast_refuses_a_damaged_run(gatecast: Command, finished: Path, data: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(finished, tmp_path / "damaged"))
    (folder / "models" / "equity" / "forest.safetensors").write_bytes(b"")
    answer = gatecast("forecast", folder, "--bars", data / "newest.csv")
    assert answer.status == 2
    assert "forest.safetensors is damaged" in answer.err.replace("\n", " ")
    assert answer.out == ""


# ── check ─────────────────────────────────────────────────────────────────────────────────────────


def test_check_passes_sound_bars(gatecast: Command, data: Path) -> None:
    answer = gatecast("check", data / "bars.csv")
    assert answer.status == 0
    assert "1,798 bars of 2 symbols can be used" in answer.out
    assert "Too short" not in answer.out


def test_check_says_how_many_bars_a_run_takes(gatecast: Command, here: Path) -> None:
    bars = synthetic.a1(400, seed=3).with_columns(pl.col("time").dt.date())
    bars.drop("segment", "known_at").write_csv(here / "short.csv")
    answer = gatecast("check", "short.csv", "--asset-class", "index")
    assert answer.status == 0
    assert re.search(r"Too short .* default settings \(index\): 'A1' has 400 bars; \d+ are needed", answer.out)
    told = json.loads(gatecast("check", "short.csv", "--asset-class", "index", "--json").out.splitlines()[-1])
    assert "are needed" in told["history"]["index"]


def test_check_names_a_symbol_that_stops_before_the_others(gatecast: Command, here: Path) -> None:
    bars = synthetic.a1(600, seed=3, symbols=2).with_columns(asset_class=pl.lit("equity"))
    second = max(bars["symbol"])
    stopped = bars.filter((pl.col("symbol") != second) | (pl.int_range(pl.len()).over("symbol") < 200))
    stopped.drop("segment", "known_at").with_columns(pl.col("time").dt.date()).write_csv(here / "stops.csv")
    last = stopped.filter(pl.col("symbol") == second)["time"].dt.date()[-1]
    told = json.loads(gatecast("check", "stops.csv", "--json").out.splitlines()[-1])
    (said,) = (one for one in told["findings"] if one["rule"] == "ended")
    assert (said["symbol"], said["value"]) == (second, -0.3)
    assert f"It ends on {last}" in said["advice"]
    assert "-30%" in said["advice"]
    assert f"{second},delisting,{last},-0.3" in said["advice"]
    answer = gatecast("check", "stops.csv")
    assert "nothing to note" not in answer.out
    (here / "ends.csv").write_text(f"symbol,kind,date,value\n{second},delisting,{last},-0.8\n")
    told = json.loads(gatecast("check", "stops.csv", "--actions", "ends.csv", "--json").out.splitlines()[-1])
    assert "ended" not in {one["rule"] for one in told["findings"]}
    assert [row["value"] for row in told["actions"]] == [-0.8]


def test_check_lists_rows_that_are_left_out_and_exits_with_1(gatecast: Command, here: Path) -> None:
    table = plain_table(synthetic.a1(400, seed=1))
    table[200, "high"] = table[200, "low"] / 2
    table.write_csv(here / "bars.csv")
    answer = gatecast("check", "bars.csv")
    assert answer.status == 1
    assert "error" in answer.out
    told = json.loads(gatecast("check", "bars.csv", "--json").out.splitlines()[-1])
    (fault,) = [one for one in told["findings"] if one["severity"] == "error"]
    assert fault["line"] == 202  # the header is line 1
    assert fault["time"].startswith(str(table[200, "Date"]))
    assert fault["symbol"] == "A1"
    assert told["counts"]["error"] == 1
    assert told["bars"] == 399


def test_check_says_each_class_with_its_rule_and_doubts_a_name(gatecast: Command, here: Path) -> None:
    plain_table(synthetic.a1(300, seed=1)).with_columns(Ticker=pl.lit("BTC-USD")).write_csv(here / "bars.csv")
    answer = gatecast("check", "bars.csv")
    assert "class equity (built-in default): BTC-USD" in answer.out
    assert "class_guess" in answer.out
    told = json.loads(gatecast("check", "bars.csv", "--asset-class", "crypto", "--json").out)
    expected = {"symbol": "BTC-USD", "asset_class": "crypto", "rule": "given default", "calendar": "24/7"}
    assert told["classes"] == [{**expected, "currency": None}]
    assert "class_guess" not in {one["rule"] for one in told["findings"]}


def test_a_refused_split_goes_through_with_the_option_it_names(gatecast: Command, here: Path) -> None:
    table = plain_table(synthetic.a1(300, seed=1))
    day = table["Date"][150]
    prices = [name for name in table.columns if name.lower() in ("open", "high", "low", "close")]
    table = table.with_columns(pl.when(pl.col("Date") < day).then(pl.col(name) * 7).otherwise(name) for name in prices)
    table.with_columns(pl.lit("A1").alias("Ticker")).write_csv(here / "bars.csv")
    answer = gatecast("check", "bars.csv")
    assert answer.status == 2
    assert "--splits FILE" in answer.err
    (here / "splits.csv").write_text(f"symbol,date,ratio\nA1,{day},7\n")
    (here / "actions.csv").write_text(f"symbol,kind,ex_date,value\nA1,split,{day},7\n")
    for option, file in (("--splits", "splits.csv"), ("--actions", "actions.csv")):
        told = json.loads(gatecast("check", "bars.csv", option, file, "--json").out)
        assert [one["value"] for one in told["actions"]] == [7.0]
        assert "split_applied" in {one["rule"] for one in told["findings"]}
    assert gatecast("check", "bars.csv", "--splits", "false").status == 0


def test_the_command_speaks_of_its_own_options(gatecast: Command, here: Path) -> None:
    table = plain_table(synthetic.a1(300, seed=1))
    clocks = table.with_columns(pl.col("Date").cast(pl.String) + " 10:00")
    clocks.write_csv(here / "clocks.csv")
    answer = gatecast("check", "clocks.csv")
    assert "Say which with --timezone, for example --timezone America/New_York." in answer.err
    answer = gatecast("check", "clocks.csv", "--timezone", "UTC")
    assert "Say --stamp open or --stamp close." in answer.err
    table.write_csv(here / "bars.csv")
    assert "left with --end 1990-01-01" in gatecast("check", "bars.csv", "--end", "1990-01-01").err
    (here / "actions.csv").write_text(f"symbol,kind,date,value\nA1,delisting,{table['Date'][-1]},-30%\n")
    assert "1 action applies." in gatecast("check", "bars.csv", "--actions", "actions.csv").out


def test_check_reads_the_version_that_is_asked_for(gatecast: Command, here: Path) -> None:
    table = plain_table(synthetic.a1(300, seed=1)).with_columns(known_at=pl.col("Date") + pl.duration(days=1))
    later = table.with_columns(known_at=pl.col("Date") + pl.duration(days=9))
    pl.concat([table, later]).write_csv(here / "bars.csv")
    for words, severity in (((), "info"), (("--versions", "newest"), "warning")):
        found = json.loads(gatecast("check", "bars.csv", *words, "--json").out)["findings"]
        by_rule = {one["rule"]: (one["severity"], one["value"]) for one in found}
        assert by_rule["revised"] == (severity, 300)
        assert by_rule["late"] == ("warning", 300)
    assert gatecast("check", "bars.csv", "--versions", "last").status == 2


@pytest.mark.parametrize("symbol", ["\x1b[31mEVIL\x07", "[red]EVIL[/]", "EVIL\u202e"])
def test_no_symbol_steers_the_terminal(gatecast: Command, here: Path, symbol: str) -> None:
    table = plain_table(synthetic.a1(100, seed=1)).with_columns(Ticker=pl.lit(symbol))
    table.write_csv(here / "bars.csv")
    for words in ((), ("--json",)):
        answer = gatecast("check", "bars.csv", *words)
        said = answer.out + answer.err
        assert "EVIL" in said
        assert not {"\x1b", "\x07", "\u202e"} & set(said)
        assert ("[red]EVIL[/]" in said) == (symbol == "[red]EVIL[/]")


def test_check_compares_with_a_second_source(gatecast: Command, here: Path) -> None:
    table = plain_table(synthetic.a1(300, seed=1))
    table.write_csv(here / "bars.csv")
    table.with_columns(pl.col("open", "high", "low", "close") * 2).write_csv(here / "other.csv")
    told = json.loads(gatecast("check", "bars.csv", "--reference", "other.csv", "--json").out)
    (finding,) = [one for one in told["findings"] if one["rule"] == "other_level"]
    assert finding["value"] == pytest.approx(0.5)


@pytest.mark.parametrize("words", [("run",), ("report", "absent"), ("init",), ("tune",)])
def test_a_current_folder_that_is_gone_is_one_message(gatecast: Command, here: Path, words: tuple[str, ...]) -> None:
    here.rmdir()
    answer = gatecast(*words)
    assert answer.status == 2
    assert "the folder that this command was started in was removed" in answer.err


def test_a_place_that_takes_no_file_is_not_called_locked(gatecast: Command) -> None:
    if not Path("/proc").is_dir():
        pytest.skip("needs /proc")
    answer = gatecast("run", "--out", "/proc/run-of-gatecast")
    assert answer.status == 2
    assert "another process" not in answer.err
    assert "cannot be locked" in answer.err


def test_bars_in_the_place_of_settings_are_told_where_bars_go(gatecast: Command, here: Path) -> None:
    (here / "bars.csv").write_text("time,close\n")
    answer = gatecast("run", "bars.csv")
    assert (answer.status, "--bars" in answer.err) == (2, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_device_is_not_called_absent(gatecast: Command) -> None:
    answer = gatecast("check", "/dev/full")
    assert (answer.status, "this is a device" in answer.err) == (2, True)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs signals of POSIX")
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_run_that_a_signal_ends_leaves_no_lock(here: Path, name: str, status: int) -> None:
    code = (
        "import os, signal, sys, gatecast.runs as runs\n"
        "from gatecast.cli import main\n"
        "def run(*_, **__):\n"
        "    assert os.path.exists('.r.lock')\n"
        f"    os.kill(os.getpid(), signal.{name})\n"
        "    signal.pause()\n"
        "runs.run = run\n"
        "sys.argv[1:] = ['run', '--out', 'r']\n"
        "main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert ended.stderr.startswith("error: interrupted. 0 networks kept")
    assert list(here.iterdir()) == []


def test_an_error_is_said_where_memory_is_too_short_for_its_looks(
    gatecast: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(**_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("gatecast.cli.show.make_console", short)
    answer = gatecast("run", "--no-such-option")
    assert answer.status == 2
    assert answer.err.startswith("error: ")
    assert "--no-such-option" in answer.err
