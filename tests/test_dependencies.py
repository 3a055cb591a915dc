"""Test that imported packages are declared in pyproject.toml, and declared ones imported."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# Distributions whose name does not follow from the module, also where they are not installed.
DISTRIBUTIONS = {"PIL": "pillow", "skimage": "scikit-image", "sklearn": "scikit-learn", "yaml": "pyyaml"}
# Declared for what they do without being imported: plugins, type stubs, commands, weights, and timm for their model.
TOOLS = {
    "import-linter", "mkdocs", "mkdocs-material", "mkdocstrings", "mobilesam-mirror", "mypy", "pytest-qt",
    "pytest-xdist", "ruff", "timm", "types-pyyaml", "types-requests",
}  # fmt: skip


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared(entries: list[str]) -> set[str]:
    """Names of the distributions of a list of requirements, without extras and versions."""
    return {_normal(re.match(r"[\w.-]+", one)[0]) for one in entries}  # type: ignore[index]


def _imported(folder: str) -> set[str]:
    """Names of the distributions that the files of a folder import, besides Python's own and ours."""
    modules: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {one.name.partition(".")[0] for one in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add(str(node.module).partition(".")[0])
    installed = packages_distributions()
    outside = modules - sys.stdlib_module_names - {"napari_sam_lora"}
    return {_normal(DISTRIBUTIONS.get(one) or installed.get(one, [one])[0]) for one in outside}


def _extra(*names: str) -> set[str]:
    return set().union(*(_declared(PROJECT["optional-dependencies"][name]) for name in names))


def test_what_the_package_imports_is_declared() -> None:
    assert _imported("src") - _declared(PROJECT["dependencies"]) - _extra("medical", "onnx") == set()


def test_what_is_declared_is_imported() -> None:
    imported = _imported("src")
    assert _declared(PROJECT["dependencies"]) - imported == set()
    assert _extra("medical", "onnx") - imported == set()


def test_the_extra_for_benchmarks_is_what_they_need_besides_the_package() -> None:
    assert _extra("benchmark") - _imported("benchmarks") == set()


def test_the_extras_for_developers_are_tools_or_imported() -> None:
    assert _extra("dev", "docs") - TOOLS - _imported("tests") == set()
