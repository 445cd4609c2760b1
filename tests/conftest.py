"""Fixtures that every test file may use."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import give_up, launch

REAL = Path(__file__).parents[2] / "shared" / "real"


@pytest.fixture
def real_file() -> Callable[[str], Path]:
    """Give the path of a measured file, or skip the test where it is absent."""

    def find(name: str) -> Path:
        path = REAL / name
        if not path.exists():
            pytest.skip(f"measured file {name} is not at {REAL}")
        return path

    return find


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Give the one browser of all tests, or skip the test where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        give_up("playwright is not installed; it comes with the extra 'test'")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        # One context for all pages: JupyterLab is loaded from its cache.
        yield browser.new_context(viewport={"width": 1280, "height": 800})
        browser.close()
