"""The page of the documentation with all parameters."""

from __future__ import annotations

from pathlib import Path

from napari_sam_lora.parameters.run import SECTIONS
from napari_sam_lora.parameters.tables import SECTIONS as TABLES
from napari_sam_lora.parameters.tables import page

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: python -m napari_sam_lora.parameters.tables docs/settings.md"


def test_the_page_has_a_table_of_every_section_of_the_settings_file() -> None:
    assert set(SECTIONS.values()) <= {cls for _, cls, _ in TABLES}


def test_a_row_shows_default_limits_and_meaning() -> None:
    assert (
        "| `tile_overlap` | `0.5` | a number, between 0 and 0.75 | Overlap of neighbouring tiles, as a share of their "
        "side. |"
    ) in page()
