"""A few cases of each kind of attack; `make attack` makes all of them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gatecast
from attack.__main__ import attack, crash
from attack.cell import Outcome, try_out
from attack.crashes import KILL, SHORT, WAYS, WRITINGS
from attack.readers import READERS, make_examples


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attack") / "examples"
    make_examples(folder)
    return folder


@pytest.mark.parametrize("group", sorted({reader.group for reader in READERS}))
def test_bad_files_are_refused_or_harmless(group: str, examples: Path, tmp_path: Path) -> None:
    cases = attack(examples, tmp_path, seed=101, counts={group: 12}, jobs=1)
    assert len(cases) >= 10
    failed = [(case.reader.name, case.number, case.done, case.outcome) for case in cases if case.outcome.failed]
    assert not failed


def test_every_module_that_opens_files_is_attacked() -> None:
    """A module whose files are of a kind of their own joins `READERS`."""
    source = Path(gatecast.__file__).parent
    opens = {
        ".".join(path.relative_to(source).with_suffix("").parts)
        for path in source.rglob("*.py")
        if {"read", "opened", "read_toml"} & names_imported(path)
    }
    attacked = {name for reader in READERS for name in reader.modules}
    assert opens, "no module opens a file"
    assert {name for name in opens if not any(name == one or name.startswith(f"{one}.") for one in attacked)} == set()


def names_imported(path: Path) -> set[str]:
    """What a module takes from where files are opened."""
    return {
        alias.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module in ("gatecast.files", "gatecast.settings")
        for alias in node.names
    }


def test_disturbed_writing_loses_nothing_and_blocks_nothing(examples: Path, tmp_path: Path) -> None:
    ways = {"save": (KILL, "EIO", SHORT), "record": WAYS, "run": (KILL, "ENOSPC"), "store": (KILL, "EIO")}
    ways |= {"update": (KILL, "ENOSPC"), "retrain": (KILL, "EACCES"), "rollback": (KILL,), "orders": (KILL,)}
    assert ways.keys() == WRITINGS.keys()
    ended = crash(examples, tmp_path, seed=102, share=0.004, ways=ways, jobs=1)
    assert {(one.writing, one.how) for one in ended} == {(name, how) for name, own in ways.items() for how in own}
    assert [one for one in ended if one.wrong] == []


def fails() -> None:
    raise ZeroDivisionError


def waits() -> None:
    import time

    time.sleep(60)


def connects() -> None:
    import contextlib
    import socket

    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", 9), timeout=0.1)


@pytest.mark.parametrize(
    ("work", "kind"), [(fails, "traceback"), (waits, "hang"), (connects, "forbidden"), (int, "accepted")]
)
def test_the_attack_sees_what_it_looks_for(work: type, kind: str, tmp_path: Path) -> None:
    outcome = try_out(work, folder=tmp_path, seconds=1 if work is waits else 20)
    assert isinstance(outcome, Outcome)
    assert outcome.kind == kind
    assert outcome.failed == (kind != "accepted")
