"""Find and start the browser that the tests drive."""

import os
import shutil
from typing import Any

import pytest

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


WITHOUT_WEBGL = ["--disable-3d-apis", "--disable-software-rasterizer"]


def find_chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


def give_up(reason: str) -> None:
    """Skip, or fail where the browser was promised."""
    if os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def launch(playwright: Any) -> Any:
    """Start the browser, or skip the test where there is none."""
    executable = find_chromium()
    if executable is None:
        give_up("no chromium found; install the package 'chromium' of your system")
    return playwright.chromium.launch(executable_path=executable, args=FLAGS)


def launch_without_webgl(browser: Any) -> Any:
    """Start a second browser, of the same kind, that can draw no map."""
    flags = [*FLAGS, *WITHOUT_WEBGL]
    return browser.browser_type.launch(executable_path=find_chromium(), args=flags)
