"""Light and dark pages: every colour of a plot has enough contrast to both backgrounds."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

import dashboard
from dashboard.charts import colors

PACKAGE = Path(dashboard.__file__).parent
CONFIG = tomllib.loads((PACKAGE / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
THEME = CONFIG["theme"]
MARKS = {colors.TEAL, colors.ORANGE, colors.QUIET, *colors.STATE_COLORS.values()}


def luminance(color: str) -> float:
    """The relative luminance as WCAG 2.2 defines it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    """The contrast ratio as WCAG 2.2 defines it, from 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_theme_follows_the_browser_s_light_or_dark_setting() -> None:
    assert "base" not in THEME and THEME["light"].keys() == THEME["dark"].keys()
    assert luminance(THEME["light"]["backgroundColor"]) > 0.9
    assert luminance(THEME["dark"]["backgroundColor"]) < 0.02


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_and_marks_have_enough_contrast(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    theme = THEME[mode]
    behind = [theme["backgroundColor"], theme["secondaryBackgroundColor"]]
    behind.append(theme["sidebar"]["backgroundColor"])
    for text, back in itertools.product((theme["textColor"], theme["linkColor"]), behind):
        assert contrast(text, back) >= 4.5, (text, back)
    for mark in MARKS | set(theme["chartCategoricalColors"]):
        assert contrast(mark, theme["backgroundColor"]) >= 3, mark
    # Streamlit uses this colour for selected text and as the background of buttons.
    for other in ("#ffffff", theme["backgroundColor"]):
        assert contrast(other, theme["primaryColor"]) >= 4, other
    context = SimpleNamespace(theme=SimpleNamespace(type=mode))
    monkeypatch.setattr(colors.st, "context", context)
    text, halo = colors.ink()
    assert contrast(text, theme["backgroundColor"]) >= 4.5 and contrast(text, halo) >= 4.5


def test_no_module_besides_the_palette_defines_a_colour() -> None:
    """A colour defined elsewhere is not tested on light and dark pages."""
    for path in PACKAGE.rglob("*.py"):
        if path != Path(colors.__file__):
            assert not re.findall(r"#[0-9a-fA-F]{6}\b", path.read_text(encoding="utf-8")), path
