"""The package as a whole: what importing it brings in, and its public names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import napari_sam_lora

SOURCES = Path(napari_sam_lora.__file__).parent
GUI = ("qtpy", "napari", "magicgui", "superqt", "PyQt5", "PyQt6", "PySide2", "PySide6")


def _python(*arguments: str) -> str:
    """Return what a fresh interpreter prints; fail with its traceback."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _brought_in(code: str, suspects: tuple[str, ...]) -> set[str]:
    """Return the suspects that are loaded after the code ran in a fresh interpreter."""
    lines = _python("-c", f"{code}\nimport sys\nprint(*sorted(sys.modules), sep='\\n')").splitlines()
    assert "napari_sam_lora" in lines
    return set(suspects) & set(lines)


def test_importing_the_package_brings_in_no_torch_and_no_gui() -> None:
    code = "import napari_sam_lora as package; dir(package); package.__version__"
    assert _brought_in(code, ("torch", "scipy", *GUI)) == set()


def test_prompts_and_preprocessing_need_no_torch() -> None:
    code = "from napari_sam_lora import Preprocessing, Prompts; import napari_sam_lora.labels"
    assert _brought_in(code, ("torch", *GUI)) == set()


def test_the_core_brings_in_no_gui() -> None:
    modules = [
        ".".join(("napari_sam_lora", *path.relative_to(SOURCES).with_suffix("").parts))
        for path in SOURCES.rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py") and path.relative_to(SOURCES).parts[0] != "_qt"
    ]
    assert {"napari_sam_lora.api", "napari_sam_lora.training.run", "napari_sam_lora.demo"} <= set(modules)
    assert _brought_in("import " + ", ".join(modules), ("torch", *GUI)) == {"torch"}


def test_every_public_name_resolves_and_is_listed() -> None:
    assert len(set(napari_sam_lora.__all__)) == len(napari_sam_lora.__all__)
    assert set(napari_sam_lora.__all__) <= set(dir(napari_sam_lora))
    for name in napari_sam_lora.__all__:
        found = getattr(napari_sam_lora, name)
        assert found is not None
        if name != "__version__":
            assert found.__name__ == name
            assert found.__doc__


@pytest.mark.parametrize("name", ["nothing", "_Model", "torch"])
def test_an_unknown_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"'napari_sam_lora' has no attribute '{name}'"):
        getattr(napari_sam_lora, name)


def test_the_package_is_marked_as_typed_and_has_its_manifest_beside_it() -> None:
    assert (SOURCES / "py.typed").is_file()
    assert (SOURCES / "napari.yaml").is_file()


def test_the_command_line_explains_itself() -> None:
    printed = _python("-m", "napari_sam_lora.cli", "--help")
    assert printed.startswith("usage: napari-sam-lora")
    assert "demo" in printed
    assert "--steps" in _python("-m", "napari_sam_lora.cli", "demo", "--help")


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], [], ["unknown"], ["demo", "--steps", "many"]])
def test_the_command_line_parses_without_torch(arguments: list[str]) -> None:
    code = f"from napari_sam_lora.cli import main\ntry:\n    main({arguments!r})\nexcept SystemExit:\n    pass"
    assert _brought_in(code, ("torch", *GUI)) == set()


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["demo", "--steps", "many"]])
def test_a_wrong_command_line_exits_with_2(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "napari_sam_lora.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "--help" in done.stderr
