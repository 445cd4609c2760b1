"""From key to painted pattern, in a real browser, beside the plain ways to do it.

And on the map of 30,000 patterns: from the end of a lasso round 2,000 of them until the
gallery shows the first page, from the key until all of them are stored, and until all
are taken back.

`make bench-labeller` runs it; it needs chromium and playwright and takes
some minutes. Every pattern carries its own index as a row of bright and dark blocks, so
what is waited for is the picture itself: from the trusted key event until the frame
with the right index has been painted.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from chromium import launch
from lab import LabPage, LabServer, write_notebook
from playwright.sync_api import sync_playwright

from helpers.patterns import open_patterns
from helpers.widgets import make_thumbnails
from helpers.widgets.pixels import Thumbnails

ROUND_TRIP_MS = 100
N_MAPPED, N_GROUP = 30_000, 2_000  # patterns on the map, and in a group to be lassoed
BLOCK = 12  # pixels of one bit; a thumbnail has a third of them
N_BITS = 16

HEAD = """
import io
import ipywidgets as ipw
import numpy as np
from IPython.display import display
from matplotlib import pyplot as plt
from PIL import Image
from helpers.labels import open_label_store
from helpers.patterns import open_patterns
from helpers.widgets import label_patterns, show_gallery
from helpers.widgets.pixels import colour_tables, encode_pattern, shrink_pattern

patterns = open_patterns("../coded.h5")
store = open_label_store("labels.sqlite", patterns.fingerprint, len(patterns))
bad = patterns.bad_pixels
place = 0

def png(codes):
    picture = Image.fromarray(codes).convert("P")
    picture.putpalette(colour_tables()[:768])
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()

def codes_of(pattern):
    return encode_pattern(patterns[pattern], bad, 1.0).codes

def step(show):
    def click(button):
        global place
        seq = place + 1
        store.record(place, "single", labeller="b", session="bench", seq=seq)
        place += 1
        show(place)
    button = ipw.Button(description="single")
    button.on_click(click)
    return button
"""
LABELLER = "label_patterns(patterns, store, labeller='anna')"
IMAGE = """
picture = ipw.Image(value=png(codes_of(0)), width=514)
def show(pattern):
    picture.value = png(codes_of(pattern))
display(ipw.VBox([step(show), picture]))
"""
FIGURE = """
output = ipw.Output()
def show(pattern):
    figure = plt.figure(figsize=(2.57, 2.6), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(codes_of(pattern), interpolation="none", aspect="auto")
    with output:
        output.clear_output(wait=True)
        display(figure, metadata={"image/png": {"width": 514}})
    plt.close(figure)
%config InlineBackend.print_figure_kwargs = {"bbox_inches": None}
show(0)
display(ipw.VBox([step(show), output]))
"""
GALLERY = """
from helpers.widgets import pixels
pixels.find_crop = lambda patterns: pixels.WHOLE  # the index stands at the rim
show_gallery(patterns, range(len(patterns)))
"""
COMPOSED = """
picture = ipw.Image(width=700)
def show(page):
    first = 48 * page
    small = [shrink_pattern(patterns[first + i], bad, 96) for i in range(48)]
    tiles = [encode_pattern(*each, 1.0).codes for each in small]
    rows = [np.hstack(tiles[8 * row : 8 * row + 8]) for row in range(6)]
    picture.value = png(np.vstack(rows))
show(0)
display(ipw.VBox([step(show), picture]))
"""
MAP = f"""
import h5py
from helpers.pattern_map import PatternMap
from helpers.widgets import show_map
with h5py.File("../coded.h5") as file, h5py.File("many.h5", "w") as many:
    n, *sides = file["patterns"].shape
    layout = h5py.VirtualLayout(({N_MAPPED}, *sides), "f4")
    for start in range(0, {N_MAPPED}, n):
        stop = min(start + n, {N_MAPPED})
        layout[start:stop] = h5py.VirtualSource(file["patterns"])[: stop - start]
    many.create_virtual_dataset("patterns", layout)
patterns = open_patterns("many.h5")
store = open_label_store("map.sqlite", patterns.fingerprint, len(patterns))
cluster = np.repeat([0, 1, 2], [{N_MAPPED - 2 * N_GROUP}, {N_GROUP}, {N_GROUP}])
middle = np.array([[0, 0], [-8, -8], [8, 8]])
position = middle[cluster] + np.random.default_rng(0).uniform(-1, 1, ({N_MAPPED}, 2))
found = PatternMap(
    position.astype("f4"), cluster.astype("i4"), np.arange({N_MAPPED}), "x",
    patterns.fingerprint,
)
show_map(patterns, found, store=store, labeller="anna")
"""
# From the next event of a kind until a condition on the gallery holds and is painted.
WATCH_GALLERY = """([kind, condition]) => {
    const holds = new Function(`
        const busy = document.querySelector('.sh-grid').getAttribute('aria-busy');
        const total = document.querySelector('.sh-progress-total').textContent;
        const saving = document.querySelector('.sh-saving').textContent;
        return busy === 'false' && (${condition});`);
    window.took = new Promise((resolve) => {
        document.addEventListener(kind, (event) => {
            const end = () => resolve(performance.now() - event.timeStamp);
            const look = () => {
                if (!holds()) requestAnimationFrame(look);
                else setTimeout(end);
            };
            requestAnimationFrame(look);
        }, { once: true, capture: true });
    });
}"""
LEFT_DOWN, RIGHT_UP = (0.01, 0.75, 0.25, 0.99), (0.75, 0.01, 0.99, 0.25)
DELAY = f"""
window.WebSocket = class extends WebSocket {{
    send(data) {{ setTimeout(() => super.send(data), {ROUND_TRIP_MS / 2}); }}
    set onmessage(run) {{
        super.onmessage = (event) => setTimeout(() => run(event), {ROUND_TRIP_MS / 2});
    }}
    get onmessage() {{ return super.onmessage; }}
}};
"""
# Reads the index out of a picture; then waits for the frame that shows the wanted one.
WATCH = """({ selector, block, bits }) => {
    const scratch = document.createElement('canvas');
    scratch.width = bits * block;
    scratch.height = block;
    const context = scratch.getContext('2d', { willReadFrequently: true });
    window.readIndex = () => {
        const picture = [...document.querySelectorAll(selector)].at(-1);
        if (!picture || (picture.tagName === 'IMG' && !picture.complete)) return -1;
        const size = [scratch.width, block];
        context.clearRect(0, 0, ...size);
        context.drawImage(picture, 0, 0, ...size, 0, 0, ...size);
        const { data } = context.getImageData(0, block / 2, scratch.width, 1);
        let index = 0;
        for (let bit = 0; bit < bits; bit += 1)
            if (data[4 * Math.floor((bit + 0.5) * block)] > 128) index += 2 ** bit;
        return index;
    };
    window.watchFor = (wanted) => {
        window.took = new Promise((resolve) => {
            document.addEventListener('keydown', (event) => {
                const end = () => resolve(performance.now() - event.timeStamp);
                const look = () => {
                    if (window.readIndex() !== wanted) requestAnimationFrame(look);
                    else setTimeout(end); // when this frame has been painted
                };
                requestAnimationFrame(look);
            }, { once: true, capture: true });
        });
    };
}"""


@dataclass(frozen=True)
class Design:
    """One way to show patterns; `stride` patterns at a time, `shrunk` so many times."""

    name: str
    cell: str
    selector: str
    key: str
    stride: int = 1
    shrunk: int = 1

    @property
    def is_plain(self) -> bool:
        return self.key == "Enter"


OUTPUT = ".jp-OutputArea img"
DESIGNS = (
    Design("matplotlib figure in an Output", FIGURE, OUTPUT, "Enter"),
    Design("ipywidgets.Image, PNG", IMAGE, OUTPUT, "Enter"),
    Design("label_patterns", LABELLER, ".sh-canvas", "1"),
    Design("48 small ones in an ipywidgets.Image", COMPOSED, OUTPUT, "Enter", 48, 3),
    Design(
        "show_gallery, 48 a page",
        GALLERY,
        ".sh-thumb:first-child canvas",
        "PageDown",
        48,
        3,
    ),
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--keys", type=int, default=40, help="keys a design")
    n_keys = arguments.parse_args().keys
    with tempfile.TemporaryDirectory(prefix="bench-labeller-") as home:
        server = LabServer(Path(home))
        try:
            _write_coded_patterns(server.notebooks / "coded.h5", 48 * (n_keys + 2))
            _measure_all(server, n_keys)
            _measure_map(server, n_keys // 4)
            _measure_thumbnails(server.notebooks / "coded.h5", Path(home) / "work")
        finally:
            server.stop()


def _measure_all(server, n_keys: int) -> None:
    print(f"From key to painted, ms, median / 95 %, {n_keys} keys each\n")
    print(f"{'':40}{'as it is':>14}{f'+ {ROUND_TRIP_MS} ms round trip':>24}")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        for design in DESIGNS:
            times = []
            for script in ("", DELAY):
                notebook = _open(server, browser.new_page(), design, script)
                times.append(_measure(notebook.page, design, n_keys))
                notebook.close()
            print(f"{design.name:40}{_say(times[0]):>14}{_say(times[1]):>24}")
        browser.close()


def _measure_map(server, n_times: int) -> None:
    """Draw round a group, label it, take it back; first one group, then the other."""
    write_notebook(server.notebooks / "map" / "notebook.ipynb", [HEAD, MAP])
    with sync_playwright() as playwright:
        browser = launch(playwright)
        size = {"width": 1100, "height": 1400}
        lab = LabPage(browser.new_page(viewport=size), server, "map/notebook.ipynb")
        lab.open()
        lab.run_all()
        gallery, page = lab.widget(), lab.page
        canvas = page.locator("canvas:not(.sh canvas)").first
        page.wait_for_timeout(3_000)  # until all points are drawn
        times: dict[str, list[float]] = {"lasso": [], "key": [], "undo": []}
        for turn in range(n_times):
            begin, n = _draw_round(page, canvas, (LEFT_DOWN, RIGHT_UP)[turn % 2])
            times["lasso"].append(begin)
            gallery.focus()
            page.keyboard.press("Shift+A")
            gallery.get_by_text(f"{n} selected").wait_for()
            page.wait_for_timeout(300)  # a person looks
            page.keyboard.press("s")  # asks
            gallery.get_by_text(f"Label all {n} patterns").wait_for()
            for name, key, done in (("key", "s", n), ("undo", "z", 0)):
                saved = f"saving === 'all saved' && total.startsWith('{done} of ')"
                page.wait_for_timeout(300)
                page.evaluate(WATCH_GALLERY, ["keydown", saved])
                page.keyboard.press(key)
                times[name].append(page.evaluate("() => window.took"))
        lab.close()
        browser.close()
    print(f"\nOn the map of {N_MAPPED:,}, {N_GROUP:,} in a lasso, ms, median / 95 %")
    for name, each in times.items():
        print(f"{name:40}{_say(each):>14}")


def _draw_round(page, canvas, corners) -> tuple[float, int]:
    """Draw a lasso along a rectangle; return how long it took, and for how many."""
    canvas.evaluate("(canvas) => canvas.scrollIntoView()")
    page.wait_for_timeout(500)
    box = canvas.bounding_box()
    total = page.locator(".sh-progress-total").first
    before = total.inner_text()
    left, top, right, bottom = corners

    def at(x: float, y: float) -> tuple[float, float]:
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    page.mouse.move(*at(left, top))
    page.mouse.down()
    for corner in ((right, top), (right, bottom), (left, bottom), (left, top)):
        page.mouse.move(*at(*corner), steps=12)
    page.evaluate(WATCH_GALLERY, ["mouseup", f"total !== {before!r}"])
    page.mouse.up()
    took = page.evaluate("() => window.took")
    return took, int(total.inner_text().split()[2])


def _measure_thumbnails(file: Path, work_dir: Path) -> None:
    patterns = open_patterns(file)
    path, whole_ms = _time(lambda: make_thumbnails(patterns, work_dir))
    page = np.random.default_rng(0).permutation(len(patterns))[:48].tolist()
    _, made_ms = _time(lambda: Thumbnails(patterns).of(page))
    _, kept_ms = _time(lambda: Thumbnails(patterns, work_dir).of(page))
    n = len(patterns)
    print(f"\nThumbnails: {path.stat().st_size / 1e3 / n:.1f} kB a pattern, ", end="")
    print(f"{whole_ms / n:.2f} ms of CPU time each to make")
    print(f"A page of 48: made {made_ms:.0f} ms, from the file {kept_ms:.1f} ms")


def _time(work) -> tuple:
    """Return what some work gives, and the CPU time that it took in ms."""
    begin = time.process_time()
    result = work()
    return result, 1e3 * (time.process_time() - begin)


def _open(server, page, design: Design, script: str):
    path = f"{design.name} {len(script)}/notebook.ipynb"
    write_notebook(server.notebooks / path, [HEAD, design.cell])
    page.add_init_script(script)
    notebook = LabPage(page, server, path)
    notebook.open()
    notebook.run_all()
    if design.is_plain:
        page.locator("button", has_text="single").focus()
    else:
        notebook.widget().focus()
    return notebook


def _measure(page, design: Design, n_keys: int) -> list[float]:
    block = BLOCK // design.shrunk
    options = {"selector": design.selector, "block": block, "bits": N_BITS}
    page.evaluate(WATCH, options)
    page.wait_for_function("() => window.readIndex() === 0")
    times = []
    for i in range(1, n_keys + 1):
        page.wait_for_timeout(300)  # a person looks; the labeller asks for 150 ms
        page.evaluate("(index) => window.watchFor(index)", i * design.stride)
        page.keyboard.press(design.key)
        times.append(page.evaluate("() => window.took"))
    return times[2:]  # the first two warm up


def _say(times: list[float]) -> str:
    return f"{np.median(times):.0f} / {np.percentile(times, 95):.0f}"


def _write_coded_patterns(path: Path, n: int) -> None:
    """Write noise of which the first `BLOCK` rows hold the pattern's index in bits."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        shape = (n, 260, 257)
        data = file.create_dataset("patterns", shape, "f4", chunks=(1, 260, 257))
        for i in range(n):
            image = rng.poisson(2.0, shape[1:]).astype(np.float32)
            bits = [1000.0 * (i >> bit & 1) for bit in range(N_BITS)]
            image[:BLOCK, : N_BITS * BLOCK] = np.repeat(bits, BLOCK)
            image[0, -1] = 1000.0
            data[i] = image


if __name__ == "__main__":
    main()
