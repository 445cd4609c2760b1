"""Draw the README's picture, the whole way to the selection, and take the map's.

`make pictures` calls it, after `make run`: what is drawn comes from that run's work
folder, and widgets are shown as JupyterLab shows them.
"""

import io
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
from chromium import launch
from lab import LabPage, LabServer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from helpers import classifier, experiment, labels, pattern_map, plots, ranking
from helpers.physics import PattersonMaps

REPOSITORY = Path(__file__).parents[2]
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
TITLES = (
    "1 inspect: 1,200 patterns",
    "2 map: what is alike",
    "3 label: by key, in JupyterLab",
    "4 rank: most like single hits",
    "5 train: judged on others",
    "6 review: what is selected",
    "7 improve: why is it a double hit?",
)
N_SHOWN = 6
WIDTH = 1200


def main(work_dir: str) -> None:
    """Take all pictures of a run."""
    server = LabServer(Path(tempfile.mkdtemp(prefix="pictures-")))
    (server.notebooks / "notebooks").symlink_to(REPOSITORY / "notebooks")
    try:
        with sync_playwright() as playwright:
            browser = launch(playwright)
            save(draw_way(Path(work_dir), take_labeller(browser, server)), "way")
            for theme, picture in take_map(browser, server).items():
                save(picture, f"02-map-{theme}")
    finally:
        server.stop()


def draw_way(work_dir: Path, labeller: bytes) -> bytes:
    """Return the picture of the whole way as PNG."""
    mpl.use("agg")
    fig = Figure(figsize=(16, 7.4), layout="constrained")
    axes = [ax for row in fig.subplots(2, 4) for ax in row]
    draw(axes, work_dir, labeller)
    for ax, title in zip(axes, TITLES, strict=False):
        ax.set_title(title, fontsize=14, loc="left")
    picture = io.BytesIO()
    fig.savefig(picture, dpi=120)
    return picture.getvalue()


def draw(axes: list[Axes], work_dir: Path, labeller: bytes) -> None:
    """Draw what each notebook adds."""
    inspected = experiment.open_experiment(work_dir)
    place, patterns = work_dir / "labels.sqlite", inspected.patterns
    with labels.open_label_store(place, patterns.fingerprint, len(patterns)) as store:
        words = store.current_labels()
    rows, columns = plots.find_crop(patterns)
    bad_pixels = patterns.bad_pixels[rows, columns]

    def show(ax: Axes, index: list[int]) -> None:
        cut = patterns[np.asarray(index)][:, rows, columns]
        plots.plot_gallery(ax, cut, [""] * len(index), bad_pixels, columns=3)

    predictions = classifier.read_predictions(work_dir / "predictions.h5", patterns)
    threshold = predictions.threshold
    single = predictions.probability >= threshold
    hits = inspected.measurements.lit_pixels > inspected.metadata["hit_threshold"]
    show(axes[0], [0, 193, 232, 464, 502, 696])
    found = pattern_map.read_map(work_dir)
    plots.plot_clusters(axes[1], found.position, found.cluster)
    axes[1].set_title("")
    axes[1].set_aspect("auto")
    axes[2].imshow(Image.open(io.BytesIO(labeller)))
    axes[2].set_axis_off()
    show(axes[3], list(ranking.read_ranking(work_dir / "ranking.h5").index[:N_SHOWN]))
    model = classifier.load_model(work_dir)
    judged = model.judged
    plots.plot_histogram(
        axes[4],
        judged.probability,
        xlabel="probability of a single hit",
        threshold=threshold,
        labels=words[judged.index],
    )
    steps = {
        "patterns": len(patterns),
        "hits": int(hits.sum()),
        "predicted single": int(single.sum()),
        "taken": len(np.loadtxt(work_dir / "selection" / "selection.txt")),
    }
    plots.plot_way(axes[5], steps)
    doubles = np.flatnonzero(words == "multiple")
    surest = doubles[predictions.probability[doubles].argmin()]
    maps = PattersonMaps(patterns.bad_pixels, inspected.centre)
    plots.plot_patterson(axes[6], maps.make_maps(patterns[[surest]])[0], title="")
    show(axes[7], list(np.flatnonzero(single)[:N_SHOWN]))
    axes[7].set_title("taken: to Dragonfly, CXI …", fontsize=14, loc="left")


def open_and_run(browser: Browser, server: LabServer, name: str) -> LabPage:
    """Run a notebook."""
    page = browser.new_page(viewport={"width": 1100, "height": 1500})
    lab = LabPage(page, server, f"notebooks/{name}.ipynb")
    page.set_default_timeout(300_000)
    lab.open()
    lab.command("application:toggle-left-area")
    lab.run_all()
    return lab


def take_labeller(browser: Browser, server: LabServer) -> bytes:
    """Return the labeller as PNG."""
    lab = open_and_run(browser, server, "03-label")
    widget = lab.widget()
    widget.scroll_into_view_if_needed()
    lab.page.wait_for_timeout(1_000)  # the notebook moves once more by itself
    picture = bytes(widget.screenshot())
    lab.close()
    return picture


def take_map(browser: Browser, server: LabServer) -> dict[str, bytes]:
    """Return the map with the largest cluster in the gallery, as PNG by theme."""
    lab = open_and_run(browser, server, "02-map")
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


def save(picture: bytes, name: str) -> None:
    """Save a picture small enough to be kept with the code."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    path = REPOSITORY / "docs" / f"{name}.png"
    image.quantize(256, kmeans=2).save(path, optimize=True)
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main(sys.argv[1])
