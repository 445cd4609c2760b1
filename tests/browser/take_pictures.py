"""Take the README's pictures: run the notebooks in JupyterLab and keep what they show.

`make pictures` calls it, on the example of `make run`; the pictures go to `docs/`.
"""

import base64
import io
import sys
import tempfile
from pathlib import Path

from chromium import launch
from lab import LabPage, LabServer
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

REPOSITORY = Path(__file__).parents[2]
FIGURES = {  # the heading above the figure
    "01-inspect": "## Patterns along the run",
    "02-map": "## What lies where",
    "04-rank": "## The best",
    "05-train": "The same test set in pictures",
    "06-review": "## Around the threshold",
    "07-improve": "From left to right: the pattern",
}
WIDGETS = {"03-label": 0}  # which widget of the notebook
MAP = "02-map"
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
WIDTH = 1000


def main() -> None:
    """Take all pictures."""
    home = Path(tempfile.mkdtemp(prefix="pictures-"))
    server = LabServer(home)
    (server.notebooks / "notebooks").symlink_to(REPOSITORY / "notebooks")
    try:
        with sync_playwright() as playwright:
            browser = launch(playwright)
            for name in sorted([*FIGURES, *WIDGETS]):
                save(take(browser, server, name), REPOSITORY / "docs" / f"{name}.png")
            for theme, picture in take_map(browser, server).items():
                save(picture, REPOSITORY / "docs" / f"{MAP}-{theme}.png")
    finally:
        server.stop()


def open_and_run(browser: Browser, server: LabServer, name: str) -> LabPage:
    """Run a notebook."""
    page = browser.new_page(viewport={"width": 1100, "height": 1200})
    lab = LabPage(page, server, f"notebooks/{name}.ipynb")
    page.set_default_timeout(300_000)
    lab.open()
    lab.command("application:toggle-left-area")
    lab.run_all()
    return lab


def take(browser: Browser, server: LabServer, name: str) -> bytes:
    """Run a notebook and return its picture as PNG."""
    lab = open_and_run(browser, server, name)
    picture = show(lab, name)
    lab.close()
    return picture


def take_map(browser: Browser, server: LabServer) -> dict[str, bytes]:
    """Return the map with the largest cluster in the gallery, as PNG by theme."""
    lab = open_and_run(browser, server, MAP)
    lab.widget()
    lab.page.get_by_label("show cluster").select_option("0")
    found = {}
    for short, theme in THEMES.items():
        lab.command("apputils:change-theme", theme=theme)
        view = lab.page.locator(".jp-OutputArea-output", has=lab.page.locator(".sh"))
        view.last.scroll_into_view_if_needed()
        lab.page.wait_for_timeout(3_000)  # until the theme and all points are drawn
        found[short] = view.last.screenshot()
    lab.close()
    return found


def show(lab: LabPage, name: str) -> bytes:
    """Return the widget as the browser shows it, or the figure below a heading."""
    if name in WIDGETS:
        return bytes(lab.widget(WIDGETS[name]).screenshot())
    cells = lab.cells()
    (heading,) = (
        i
        for i, cell in enumerate(cells)
        if cell["cell_type"] == "markdown" and FIGURES[name] in "".join(cell["source"])
    )
    figures = (
        output["data"]["image/png"]
        for cell in cells[heading:]
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    )
    return base64.b64decode("".join(next(figures)))


def save(picture: bytes, path: Path) -> None:
    """Save a picture small enough to be kept with the code."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    path.parent.mkdir(exist_ok=True)
    image.quantize(256).save(path, optimize=True)
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
