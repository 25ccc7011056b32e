"""The same writing, killed at its n-th operation on files, or with a fault of the disk there; then what is left.

An operation is opening a file to write, a rename, a removal, a new folder, a change of mode or length, bringing a file
to the disk. After each: what was there before is whole, old or new; the same writing goes through; nothing is left
over.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from attack.cell import Outcome, command, quietly_end, try_out
from attack.readers import SETTINGS, _trials, content_of, now_of

OPERATIONS = frozenset(
    {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.link", "os.symlink", "os.utime"}
)
FAULTS = {
    "EIO": errno.EIO,
    "ENOSPC": errno.ENOSPC,
    "EACCES": errno.EACCES,
    "EROFS": errno.EROFS,
    "EDQUOT": errno.EDQUOT,
}
KILL, SHORT = "kill -9", "file cut short"
WAYS = (KILL, *FAULTS, SHORT)
NEVER = 10**9


@dataclass(frozen=True)
class Crash:
    """A writing that was disturbed at its n-th operation, and what is wrong after it; empty where nothing is."""

    writing: str
    how: str
    at: int
    wrong: str
    ended: str


# ── the writings: functions of a folder, in a process of their own ────────────────────────────────


def save(folder: Path) -> Any:
    """Saves a run over another one that has a previous one already."""
    from gatecast.store import load_run, save_run

    save_run(load_run(folder / "other"), folder / "run")


def record(folder: Path) -> Any:
    """Adds a trial to a ledger with four."""
    from dataclasses import replace

    from gatecast.evaluation.ledger import record_trial
    from gatecast.evaluation.on_file import problems
    from gatecast.market import synthetic

    trial = _trials(synthetic.b1(760, seed=3, r2=0.05, symbols=2))[-1]
    with problems() as said:
        found = record_trial(replace(trial, settings_hash="one more"))
    return {"trials": len(found), "said": said}


def run(folder: Path) -> Any:
    """A whole run by the command, of which an earlier one was interrupted."""
    found = command(
        "run", str(folder / "settings.toml"), "--bars", str(folder / "bars.csv"), "--out", str(folder / "run")
    )
    return {"status": found["status"]}


def store(folder: Path) -> Any:
    """Makes a store and keeps it for a while: bars, a model, decisions, a snapshot, what can go; or goes on with it."""
    import json
    from datetime import timedelta

    import polars as pl

    from gatecast.experiment import Experiment
    from gatecast.files import sha256_of
    from gatecast.market import synthetic
    from gatecast.provenance import hash_of_bars
    from gatecast.store import Store

    bars = synthetic.b1(30, seed=3, r2=0.05, symbols=2)
    now = bars["time"].max() + timedelta(hours=1)
    place = folder / "store"
    kept = Store.open(place) if (place / "store.json").exists() else Store.create(place, Experiment(), now=now)
    kept.add_bars(bars.filter(pl.col("time").rank("dense") <= 20), now)
    if not kept.state.models:
        kept.append("refit", {"parts": {"a": kept.put(b"weights", ".safetensors")}}, now)
    if kept.state.serving is None:
        kept.append("accepted", {"model": kept.state.models[0].record}, now)
    if not kept.state.issued:
        kept.issue(bars.tail(1).select("symbol", "time", weight=pl.lit(0.5)), now, model=kept.state.serving)
    if not list(kept.journal.snapshots()):
        kept.snapshot(now)
    kept.add_bars(bars, now)
    kept.artefacts.put(b"nobody names it", ".json")
    kept.prune(now)
    kept.beat(now)
    state = {name: value for name, value in kept.state.to_json().items() if name != "id"}
    faults = [one.sentence for one in kept.check() if not one.is_harmless]
    digest = sha256_of(json.dumps(state, sort_keys=True).encode())
    return {"bars": hash_of_bars(kept.bars.as_of(now)), "state": digest, "faults": faults}


def update(folder: Path) -> Any:
    """Brings new bars into a store with a model, which decides from them."""
    place = folder / "store"
    command("update", str(place), "--bars", str(folder / "next.csv"), "--now", now_of("live_update"), "--json")
    return content_of(place)


def retrain(folder: Path) -> Any:
    """Makes the refit that is due in a store."""
    place = folder / "store"
    command("retrain", str(place), "--if-due", "--now", now_of("live_retrain"), "--jobs", "1", "--json")
    return content_of(place)


def rollback(folder: Path) -> Any:
    """Brings a store's model before back, unless it is back already."""
    from gatecast.store import Store

    place = folder / "store"
    kept = Store.open(place)
    if kept.state.serving == kept.state.models[-1].record:
        command("rollback", str(place), "--now", now_of("live_rollback"), "--json")
    else:
        with kept.locked():  # whoever writes next sweeps; who reads leaves all as it is
            pass
    return content_of(place)


def orders(folder: Path) -> Any:
    """A desk's day: orders are proposed, approved, exported, filled and reconciled; or it goes on with that day."""
    import json

    from gatecast.files import sha256_of
    from gatecast.live.blotter import Blotter
    from gatecast.store import Store

    place, file, now = folder / "store", folder / "orders.csv", "2001-12-28T23:00"
    words = ("orders", str(place), "--positions", str(folder / "held.csv"), "--capital", "1000000", "--now", now)
    made = json.loads(command(*words, "--json")["said"].splitlines()[-1])
    command("approve", str(place), made["id"], "--by", "ann", "--now", now)
    if not file.exists():
        command(*words, "--out", str(file), "--by", "ann", *(["--again"] if made["status"] == "exported" else []))
    rows = [
        f"f{one['order_id']},{one['order_id']},{one['symbol']},{one['side']},{one['units']},{one['limit_price']},"
        "2001-12-31T14:30+00:00"
        for one in made["orders"]
    ]
    (folder / "fills.csv").write_text("\n".join(["fill_id,order_id,symbol,side,units,price,time", *rows, ""]))
    command("fills", str(place), "--file", str(folder / "fills.csv"), "--now", "2001-12-31T15:00")
    held = [f"{one['symbol']},{one['target_units']}" for one in made["orders"]]
    (folder / "after.csv").write_text("\n".join(["# as_of: 2001-12-31", "# account: A1", "symbol,units", *held, ""]))
    done = command("reconcile", str(place), "--positions", str(folder / "after.csv"), "--now", "2001-12-31T15:00")
    kept = Blotter(Store.open(place))
    return {"file": sha256_of(file.read_bytes()), "filled": kept.filled("A1"), "status": done["status"]}


WRITINGS = {
    "save": save, "record": record, "run": run, "store": store,
    "update": update, "retrain": retrain, "rollback": rollback, "orders": orders,
}  # fmt: skip
LIVE = ("update", "retrain", "rollback", "orders")
"""Writings to a store that has models already."""


# ── what is left ──────────────────────────────────────────────────────────────────────────────────


def left(folder: Path) -> Any:
    """What a folder holds after a writing: digests of the runs there, trials, and names that should be gone."""
    from gatecast.errors import StoreError
    from gatecast.evaluation.ledger import ledger_path, read_trials
    from gatecast.evaluation.on_file import problems
    from gatecast.store import Store, load_run, run_parts

    runs, faults = {}, []
    if (folder / "store").exists():
        faults = [one.sentence for one in Store.faults(folder / "store") if not one.is_harmless]
    for place in ("run", "run.previous"):
        if (folder / place).is_dir():
            try:
                parts = run_parts(load_run(folder / place))
                parts = {name: part for name, part in parts.items() if name.endswith((".parquet", ".safetensors"))}
                runs[place] = hash_of(parts)
            except StoreError as error:
                runs[place] = f"unreadable: {error}"
    with problems() as said:
        trials = len(read_trials(ledger_path()))
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*")]
    ours = ("temporary/", "store/kept/")
    over = [name for name in names if name.endswith(".part") or "unfinished" in name or name.startswith(ours)]
    return {"runs": runs, "trials": trials, "said": said, "over": over, "faults": faults}


def hash_of(parts: dict[str, bytes]) -> str:
    import hashlib

    digest = hashlib.sha256()
    for name in sorted(parts):
        digest.update(name.encode() + b"\0" + parts[name])
    return digest.hexdigest()


# ── disturbing ────────────────────────────────────────────────────────────────────────────────────


def disturbed(writing: str, folder: str, how: str, at: int) -> Any:
    """Does a writing and disturbs its operation number `at`; the number of operations out, if it comes to its end."""
    root = Path(folder)
    _work_inside(root)
    if how == SHORT:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        if at < NEVER:
            resource.setrlimit(resource.RLIMIT_FSIZE, (at, resource.RLIM_INFINITY))
    else:
        _disturb_operations(root, how, at)
    try:
        found = WRITINGS[writing](root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        _COUNT[1] = NEVER
    return {"operations": _COUNT[0], "found": found}


def _work_inside(root: Path) -> None:
    """Brings this process's data folder and temporary files into a folder."""
    import tempfile

    os.environ |= {"GATECAST_DATA": str(root / "data"), "TMPDIR": str(root / "temporary")}
    tempfile.tempdir = None


_COUNT = [0, NEVER]  # operations so far, and which of them is disturbed


def _disturb_operations(root: Path, how: str, at: int) -> None:
    _COUNT[1] = at
    inside = str(root)

    def operation() -> None:
        _COUNT[0] += 1
        if _COUNT[0] == _COUNT[1]:
            if how == KILL:
                quietly_end()
            raise OSError(FAULTS[how], os.strerror(FAULTS[how]))

    def watch(event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            writes = isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and str(given[0]).startswith(inside):
                operation()
        elif event in OPERATIONS and any(str(one).startswith(inside) for one in given[:2]):
            operation()

    plain = os.fsync

    def fsync(handle: int) -> None:
        operation()
        plain(handle)

    os.fsync = fsync
    sys.addaudithook(watch)


# ── the cases ─────────────────────────────────────────────────────────────────────────────────────


def prepare(examples: Path, folder: Path, writing: str) -> None:
    """The state before a writing."""
    folder.mkdir(parents=True)
    (folder / "temporary").mkdir()
    if writing == "store":
        return
    if writing in LIVE:
        shutil.copytree(examples / f"live_{'update' if writing == 'orders' else writing}", folder / "store")
        told = "# as_of: 2001-12-28\n# account: A1\n# positions: 0\nsymbol,units\n"
        (folder / "held.csv").write_text(told)
        shutil.copyfile(examples / "live_next.csv", folder / "next.csv")
        return
    shutil.copytree(examples / "data", folder / "data")
    for name in ("run", "run.previous", "other"):
        shutil.copytree(examples / "run", folder / name)
    if writing == "run":
        shutil.copyfile(examples / "newest.csv", folder / "bars.csv")
        (folder / "settings.toml").write_text(
            SETTINGS.replace('"forest", "logistic", "ridge", "garch", "markov", "residual_lstm"', '"logistic", "ridge"')
            + '[signals]\nmodel = "lstm"\nconfirmed_by = "ridge"\n'
        )


def disturb(examples: Path, folder: Path, writing: str, how: str, at: int, after: dict[str, Any]) -> Crash:
    """One disturbed writing; `after`: what is left of an undisturbed one."""
    prepare(examples, folder / "state", writing)
    state = str(folder / "state")
    ended = try_out(disturbed, writing, state, how, at, folder=folder / "first", seconds=60)
    wrong = _wrong_end(ended, how)
    if not wrong:
        next_start = try_out(_next_start, writing, state, folder=folder / "second", seconds=90)
        said = {"scores"} if how != KILL and ended.kind == "accepted" else set()  # that a trial could not be recorded
        wrong = _wrong_after(next_start, writing, after, said)
    if not wrong:
        shutil.rmtree(folder, ignore_errors=True)
    return Crash(writing, how, at, wrong, ended.kind)


def _next_start(writing: str, folder: str) -> Any:
    """What is left of a disturbed writing; what the same writing gives then; what is left after it."""
    root = Path(folder)
    _work_inside(root)
    found: dict[str, Any] = {"left": left(root)}
    if not _wrong_state(found["left"], writing):
        found |= {"again": WRITINGS[writing](root), "after": left(root)}
    return found


def _undisturbed(writing: str, folder: str) -> Any:
    """How many operations a writing takes, what it gives, and what is left after it."""
    return {**disturbed(writing, folder, "EIO", NEVER), "after": left(Path(folder))}


def _wrong_after(next_start: Outcome, writing: str, after: dict[str, Any], said: Collection[str] = ()) -> str:
    """`said`: what of the content may differ."""
    if next_start.kind != "accepted":
        return f"the next start does not go through: {next_start.kind} {next_start.text[-800:]}"
    found = next_start.value
    if wrong := _wrong_state(found["left"], writing):
        return wrong
    if found["again"] not in (None, after["found"]):
        other = [name for name, value in after["found"].items() if found["again"].get(name) != value]
        if other := [name for name in other if name not in said]:
            shown = str({name: found["again"].get(name) for name in other})
            return f"the same again gives something else: {shown[:1000]}"
    if found["after"]["over"]:
        return f"left over after the next start: {found['after']['over'][:3]}"
    if found["after"]["runs"].get("run") != after["left"]["runs"].get("run"):
        return f"the same again gives something else: {found['after']['runs']}"
    return ""


def _wrong_end(ended: Outcome, how: str) -> str:
    if how == KILL:
        return "" if ended.kind in ("killed", "accepted") else f"{ended.kind}: {ended.text[-800:]}"
    return "" if ended.kind in ("accepted", "refused") else f"{ended.kind}: {ended.text[-800:]}"


def _wrong_state(found: dict[str, Any], writing: str) -> str:
    if found["faults"]:
        return f"the store is in pieces: {found['faults'][:3]}"
    if writing == "store" or writing in LIVE:
        return ""
    if not found["runs"]:
        return "no run is left"
    if any(digest.startswith("unreadable") for digest in found["runs"].values()):
        return f"a run is in pieces: {found['runs']}"
    if found["trials"] < 4 and not found["said"]:
        return f"{found['trials']} of 4 trials are left, and nobody says so"
    return ""


def crashes(
    examples: Path, work: Path, seed: int, share: float, ways: Mapping[str, Sequence[str]] | None = None
) -> Iterator[tuple[Any, ...]]:
    """What `disturb` is to be called with: every operation for `share` = 1, some of them for less.

    `ways`: writing -> how it is disturbed; in all ways where it is None.
    """
    draw = Random(f"{seed} crashes")
    for writing in WRITINGS if ways is None else ways:
        folder = work / f"undisturbed-{writing}"
        prepare(examples, folder / "state", writing)
        whole = try_out(_undisturbed, writing, str(folder / "state"), folder=folder / "first", seconds=120)
        if whole.kind != "accepted":
            raise SystemExit(f"{writing}, undisturbed, does not pass: {whole.kind} {whole.text}")
        after = {"found": whole.value["found"], "left": whole.value["after"]}
        operations = range(1, whole.value["operations"] + 1)
        for how in WAYS if ways is None else ways[writing]:
            ats = [draw.choice((0, 100, 4096, 100_000)) for _ in operations][:8] if how == SHORT else list(operations)
            own = share if writing not in ("run", *LIVE) or how == KILL else share / 4
            count = max(1, round(own * len(ats)))
            for at in sorted(draw.sample(ats, min(count, len(ats)))):
                name = f"{writing}-{how.replace(' ', '')}-{at}-{draw.randrange(10**6)}"
                yield examples, work / name, writing, how, at, after
