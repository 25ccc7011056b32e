"""What a release consists of: every file of the package is in the wheel, and its metadata is true."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from trove_classifiers import classifiers

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def files(builder: WheelBuilder | SdistBuilder) -> set[str]:
    return {Path(one.distribution_path).as_posix() for one in builder.recurse_included_files()}


def test_the_wheel_has_each_file_of_the_package_and_no_other() -> None:
    source = ROOT / "src"
    there = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.match("*.egg-info/*")
    }
    assert {"gatecast/py.typed", "gatecast/report/templates/report.css"} <= there
    assert files(WheelBuilder(str(ROOT))) == there


def test_the_source_distribution_builds_tests_and_documents_itself() -> None:
    packed = files(SdistBuilder(str(ROOT)))
    needed = ("pyproject.toml", "constraints.txt", "LICENSE", "README.md", "CHANGELOG.md", "Makefile", "mkdocs.yml")
    assert {*needed, "tests/test_wheel.py", "docs/settings.md", "examples/hello_world.py"} <= packed
    assert not [name for name in packed if name.startswith((".venv", "dist", "runs", "site/", ".git/"))]


def test_classifiers_are_known_and_name_the_pythons_that_are_taken() -> None:
    about = WheelBuilder(str(ROOT)).metadata.core
    assert not set(about.classifiers) - classifiers
    pythons = [one.rpartition(" ")[2] for one in about.classifiers if re.search(r":: 3\.\d+$", one)]
    assert pythons == ["3.11", "3.12", "3.13", "3.14"]
    assert about.requires_python == f">={pythons[0]}"
    licences = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("src/**/*LICEN[CS]E*")}
    assert set(about.license_files) == {"LICENSE", *licences}


def test_the_changelog_begins_with_this_version() -> None:
    heads = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.M)
    versions = [head.split(",")[0] for head in heads]
    assert versions[0] == PROJECT["version"]
    assert versions == sorted(versions, key=lambda text: [int(part) for part in text.split(".")], reverse=True)


def test_the_table_of_dependencies_has_each_and_no_other() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w-]+) \|.*\| (\d+) \| [^|]+ \|$", page, flags=re.M)
    assert sorted(name for name, _ in rows) == sorted(re.split(r"[<>=]", one)[0] for one in PROJECT["dependencies"])
    assert all(f"`{extra}`" in page for extra in PROJECT["optional-dependencies"] if extra != "dev")


def test_every_version_that_is_needed_is_pinned() -> None:
    pinned = {
        re.split("==", line)[0].lower().replace("_", "-"): line
        for line in (ROOT / "constraints.txt").read_text().split()
    }
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    needed = {re.split(r"[\[<>=]", one)[0].lower().replace("_", "-") for group in groups for one in group}
    assert needed - pinned.keys() <= {"ccxt"}
