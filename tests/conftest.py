"""Fixtures that every test file may use."""

from collections.abc import Callable
from pathlib import Path

import pytest

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
