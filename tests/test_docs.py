"""Test that all that the docs name exists: pages, links, pictures, commands, options, keys, Python names, files."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import napari_sam_lora
from napari_sam_lora._qt.viewer import shortcuts
from napari_sam_lora.cli import COMMANDS
from napari_sam_lora.cli.parser import build_parser
from napari_sam_lora.images import CT_WINDOWS
from napari_sam_lora.model.registry import MODELS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
TEXTS = [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
KEY = re.compile(r"\b(?:(?:Ctrl|Shift)-)+(?:[A-Z]\b|click\b)")
# Other programs' options.
FOREIGN = {"--index-url"}
TERMINAL = "Ctrl-C"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _anchors(path: Path) -> set[str]:
    """Of the headings, as mkdocs and GitHub make them."""
    plain = (re.sub(r"[`*]", "", title).lower() for title in HEADING.findall(CODE.sub("", _text(path))))
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in plain}


def _commands() -> Iterator[tuple[str, str]]:
    """Page and text of each command of ours, such as it would be typed."""
    for path in TEXTS:
        for line in _text(path).splitlines():
            found = re.match(r"\s*(?:\S+/)?napari-sam-lora (?!COMMAND)(\w.*)", line)
            if found is not None:
                yield _name(path), found[1]


def _options(parser: argparse.ArgumentParser) -> set[str]:
    """All options of a parser and of the commands in it."""
    if getattr(parser, "_fill", None) is not None:
        parser.parse_known_args([])  # adds them
    found: set[str] = set()
    for action in parser._actions:
        found |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found |= _options(command)
    return found


class _Loader(yaml.SafeLoader):
    """Knows nothing of mkdocs' own tags."""


_Loader.add_multi_constructor("!", lambda loader, tag, node: tag)


@pytest.mark.parametrize("path", TEXTS, ids=_name)
def test_links_and_pictures_lead_somewhere(path: Path) -> None:
    broken = []
    for target in LINK.findall(_text(path)):
        if re.match(r"[a-z]+:", target):
            continue
        place, _, anchor = target.partition("#")
        there = (path.parent / place).resolve() if place else path
        if not there.is_file() or (anchor and anchor not in _anchors(there)):
            broken.append(target)
        if path in PAGES and DOCS not in there.parents:
            broken.append(f"{target} is not part of the site")
    assert broken == []


def test_each_page_is_in_the_navigation_once() -> None:
    def pages(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [page for one in (entry.values() if isinstance(entry, dict) else entry) for page in pages(one)]

    navigation = yaml.load(_text(ROOT / "mkdocs.yml"), _Loader)["nav"]
    assert sorted(pages(navigation)) == [page.name for page in PAGES]


def test_files_that_pages_include_exist() -> None:
    included = [name for page in PAGES for name in re.findall(r'--8<-- "(.+)"', _text(page))]
    assert included
    assert [name for name in included if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("line", [pytest.param(line, id=f"{page}: {line}") for page, line in _commands()])
def test_commands_are_understood(line: str) -> None:
    assert _exit_code(line) == 0


def _exit_code(line: str) -> Any:
    """Return the exit code of parsing a command; errors are printed."""
    try:
        build_parser(COMMANDS).parse_args(shlex.split(line, comments=True))
    except SystemExit as end:
        return end.code
    return 0


def test_options_that_pages_name_exist() -> None:
    known = set().union(*(_options_of(command) for command in COMMANDS)) | {"--version", "--help"}
    named = {option for page in [*PAGES, ROOT / "README.md"] for option in OPTION.findall(_text(page))}
    assert len(named) > 20
    assert named - known - FOREIGN == set()


def _options_of(command: Any) -> set[str]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quiet")
    parser.add_argument("--debug")
    command.add_arguments(parser)
    return _options(parser)


def test_every_command_has_a_section() -> None:
    assert {command.NAME for command in COMMANDS} <= _anchors(DOCS / "command-line.md")


def test_keys_that_pages_name_are_bound() -> None:
    bound = {one.key.replace("Control", "Ctrl") for one in shortcuts.KEYS} | {"Shift-click"}
    named = {key for page in [*PAGES, ROOT / "README.md"] for key in KEY.findall(_text(page))}
    assert bound <= named
    assert named - {TERMINAL} <= bound


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=_name)
def test_python_examples_use_names_that_exist(page: Path) -> None:
    for example in re.findall(r"```python\n(.*?)```", _text(page), re.DOTALL):
        for node in ast.walk(ast.parse(example)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nsl":
                assert node.attr in napari_sam_lora.__all__
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("napari_sam_lora"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, one.name) for one in node.names)


def test_the_python_reference_has_every_public_name() -> None:
    shown = re.findall(r"^::: (napari_sam_lora[\w.]+)\.(\w+)$", _text(DOCS / "python.md"), re.MULTILINE)
    assert {name for _, name in shown} == set(napari_sam_lora.__all__) - {"__version__"}
    for module, name in shown:
        assert getattr(importlib.import_module(module), name) is getattr(napari_sam_lora, name)


@pytest.mark.parametrize("page", TEXTS, ids=_name)
def test_source_files_that_pages_name_exist(page: Path) -> None:
    places = (ROOT, ROOT / "src" / "napari_sam_lora", page.parent)
    named = re.findall(r"`([\w.]+(?:/[\w.]+)+\.(?:py|yaml|md|toml))`", _text(page))
    assert [one for one in named if not any((place / one).is_file() for place in places)] == []


def test_the_picture_of_rooms_is_what_is_checked() -> None:
    settings = tomllib.loads(_text(ROOT / "pyproject.toml"))["tool"]["importlinter"]
    layers = next(one["layers"] for one in settings["contracts"] if one["type"] == "layers")
    drawn = re.findall(r"^    │ (\w+(?:, \w+)*)  ", _text(DOCS / "architecture.md"), re.MULTILINE)
    assert [set(re.findall(r"\w+", layer)) for layer in layers] == [set(line.split(", ")) for line in drawn]


def test_the_questions_and_answers_name_every_model_with_its_licence() -> None:
    text = _text(DOCS / "faq.md")
    for info in MODELS.values():
        assert f"`{info.name}`" in text
        assert info.licence in text


def test_the_windows_of_the_tutorial_are_those_of_the_command_line() -> None:
    rows = re.findall(r"^\| (\w+) \| (-?\d+) \| (-?\d+) \|$", _text(DOCS / "tutorial-medical.md"), re.MULTILINE)
    assert {name: (float(low), float(high)) for name, low, high in rows} == CT_WINDOWS


def test_the_citation_file_agrees_with_the_package() -> None:
    citation = yaml.safe_load(_text(ROOT / "CITATION.cff"))
    project = tomllib.loads(_text(ROOT / "pyproject.toml"))["project"]
    assert (citation["title"], str(citation["version"])) == (project["name"], project["version"])
    assert (citation["license"], citation["authors"]) == (project["license"], project["authors"])
