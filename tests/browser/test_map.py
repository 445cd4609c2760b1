"""A lasso on the map: it fills the gallery, and a key labels all that it holds."""

import re
import sqlite3

import pytest
from chromium import launch_without_webgl
from lab import KERNEL, LabPage, write_notebook

from helpers.simulate import Detector, pnccd_bad_pixels, write_simulated

pytestmark = pytest.mark.browser

N = 80
SHAPE = (40, 40)
CELL = """
from pathlib import Path
import numpy as np
from helpers.labels import open_label_store
from helpers.pattern_map import PatternMap
from helpers.patterns import open_patterns
from helpers.widgets import show_map
patterns = open_patterns("../for_the_map.h5")
store = open_label_store(
    Path("labels_file").read_text(), patterns.fingerprint, len(patterns)
)
cluster = np.repeat(np.arange(2), [60, 20]).astype(np.int32)
rng = np.random.default_rng(0)
position = np.where(cluster == 0, -8, 8)[:, None] + rng.normal(size=(80, 2))
found = PatternMap(
    position.astype(np.float32), cluster, np.arange(80), "x", patterns.fingerprint
)
photons = patterns[:].sum(axis=(1, 2))
view = show_map(patterns, found, store=store, labeller="anna", photons=photons)
view
"""
NOTE_POINTS = """
seen = []
view.scatter.observe(lambda change: seen.append(change["new"]), "hovering")
"""


@pytest.fixture(scope="module", autouse=True)
def _patterns(lab_server):
    write_simulated(
        lab_server.notebooks / "for_the_map.h5",
        N,
        seed=1,
        bad_pixels=pnccd_bad_pixels(SHAPE),
        detector=Detector.of_shape(SHAPE),
    )


class Map:
    """What a person does with the map and its gallery."""

    def __init__(self, lab, is_drawn=True):
        self.lab = lab
        self.page = lab.page
        self.gallery = lab.widget()
        if not is_drawn:
            return
        self.canvas = self.page.locator("canvas:not(.sh canvas)").first
        self.canvas.wait_for()
        self.canvas.scroll_into_view_if_needed()

    def draw_round(self, left, top, right, bottom):
        """Draw a lasso along a rectangle, in shares of the map."""
        box = self.canvas.bounding_box()

        def at(x, y):
            return box["x"] + x * box["width"], box["y"] + y * box["height"]

        corners = [(right, top), (right, bottom), (left, bottom), (left, top)]
        self.page.mouse.move(*at(left, top))
        self.page.mouse.down()
        for corner in corners:
            self.page.mouse.move(*at(*corner), steps=12)
        self.page.mouse.up()

    def wait_list(self, n):
        total = self.gallery.locator(".sh-progress-total")
        total.get_by_text(f"of {n} labelled").wait_for()
        self.gallery.locator(".sh-grid[aria-busy=false]").wait_for()

    def wait_other_list(self):
        """Wait until the gallery has other patterns; return how many."""
        total = self.gallery.locator(".sh-progress-total")
        total.and_(
            self.page.get_by_text(re.compile(rf"of (?!{N} )\d+ labelled"))
        ).wait_for()
        self.gallery.locator(".sh-grid[aria-busy=false]").wait_for()
        return int(re.search(r"of (\d+) labelled", total.inner_text())[1])

    def wait_labelled(self, n, of):
        total = self.gallery.locator(".sh-progress-total")
        total.get_by_text(f"{n} of {of} labelled").wait_for()
        self.gallery.locator(".sh-saving", has_text="all saved").wait_for()

    def press(self, key):
        self.gallery.focus()
        self.gallery.locator(".sh-grid[aria-busy=false]").wait_for()
        self.page.keyboard.press(key)


def test_a_lasso_is_labelled_by_one_key_asked_once_and_undone_in_one_step(run_notebook):
    lab = run_notebook([CELL])
    driver = Map(lab)
    driver.wait_list(N)
    driver.draw_round(0.02, 0.5, 0.5, 0.98)  # the lower left: the first cluster
    n = driver.wait_other_list()
    assert n > 50  # a point at the rim may be left out
    driver.press("Shift+A")
    driver.gallery.get_by_text(f"{n} selected").wait_for()
    driver.press("s")
    asked = f"Label all {n} patterns of this list single?"
    driver.gallery.get_by_text(asked).wait_for()
    assert lab.stored() == {}
    driver.press("s")
    driver.wait_labelled(n, of=n)
    stored = lab.stored()
    assert len(stored) == n
    assert max(stored) < 60
    assert set(stored.values()) == {"single"}
    with sqlite3.connect(lab.labels) as database:
        query = "SELECT shown FROM label_events WHERE kind = 'label'"
        ways = [shown for (shown,) in database.execute(query)]
    assert len(ways) == n
    assert all(way.startswith("by map, ") for way in ways)
    driver.press("z")
    driver.wait_labelled(0, of=n)
    assert lab.stored() == {}


def test_a_cluster_of_the_list_fills_the_gallery_and_few_are_not_asked_for(
    run_notebook,
):
    lab = run_notebook([CELL])
    driver = Map(lab)
    driver.wait_list(N)
    lab.page.get_by_label("show cluster").select_option("1")
    driver.wait_list(20)
    driver.press("Shift+A")
    driver.press("b")
    driver.wait_labelled(20, of=20)
    assert lab.stored() == dict.fromkeys(range(60, 80), "blank")


def test_the_pattern_under_the_pointer_is_shown_and_the_gallery_marks_its_point(
    run_notebook,
):
    lab = run_notebook([CELL])
    driver = Map(lab)
    driver.wait_list(N)
    lab.page.get_by_label("show cluster").select_option("1")
    driver.wait_list(20)
    lab.run_code(NOTE_POINTS)
    second = driver.gallery.locator(".sh-thumb").nth(1)
    second.click()
    name = second.locator(".sh-thumb-foot > span:first-child").inner_text()
    lab.page.get_by_text(f"pattern {name}", exact=True).wait_for()
    lab.run_code(f"assert {name} in seen; seen.clear()")
    driver.canvas.scroll_into_view_if_needed()
    box = driver.canvas.bounding_box()
    for row in range(2, 18):  # somewhere there are points
        for share in (0.55, 0.98):
            lab.page.mouse.move(
                box["x"] + share * box["width"],
                box["y"] + row / 36 * box["height"],
                steps=20,
            )
    lab.page.wait_for_timeout(500)
    lab.run_code("assert {*seen} & {*range(60, 80)}, seen")


def test_the_map_follows_the_theme(run_notebook):
    lab = run_notebook([CELL])
    driver = Map(lab)
    driver.wait_list(N)
    lab.command("apputils:change-theme", theme="JupyterLab Dark")
    wait_until(lab, "view.page.is_dark")
    lab.run_code("assert max(view.scatter.background_color[:3]) < 0.2")
    lab.command("apputils:change-theme", theme="JupyterLab Light")
    wait_until(lab, "not view.page.is_dark")
    lab.run_code("assert min(view.scatter.background_color[:3]) > 0.9")


def wait_until(lab, condition):
    """Wait until something holds in the kernel."""
    script = f"""async (code) => (await {KERNEL}.requestExecute({{ code }}).done)
        .content.status === 'ok'"""
    lab.page.wait_for_function(script, arg=f"assert {condition}", polling=200)


LARGE = 5000
LARGE_CELL = """
from pathlib import Path
import h5py
import numpy as np
from helpers.labels import open_label_store
from helpers.pattern_map import PatternMap
from helpers.patterns import open_patterns
from helpers.widgets import show_map
with h5py.File("many.h5", "w") as file:
    file["patterns"] = np.random.default_rng(0).poisson(1, (5000, 12, 12)).astype("f4")
patterns = open_patterns("many.h5")
store = open_label_store(
    Path("labels_file").read_text(), patterns.fingerprint, len(patterns)
)
position = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)
found = PatternMap(
    position, np.zeros(5000, np.int32), np.arange(5000), "x", patterns.fingerprint
)
view = show_map(patterns, found, store=store, labeller="anna")
view
"""


def test_thousands_of_labels_are_stored_at_once_and_taken_back_at_once(run_notebook):
    lab = run_notebook([LARGE_CELL])
    driver = Map(lab)
    driver.wait_list(LARGE)
    lab.run_code(
        "opened = []\n"
        "writing = store._database.writing\n"
        "store._database.writing = lambda: opened.append(1) or writing()"
    )
    driver.press("Shift+A")
    driver.gallery.get_by_text(f"{LARGE} selected").wait_for()
    driver.press("b")
    driver.gallery.get_by_text(f"Label all {LARGE} patterns").wait_for()
    driver.press("b")
    driver.wait_labelled(LARGE, of=LARGE)
    assert lab.stored() == dict.fromkeys(range(LARGE), "blank")
    driver.press("z")
    driver.wait_labelled(0, of=LARGE)
    assert lab.stored() == {}
    lab.run_code("assert len(opened) == 2, opened")
    lab.run_code(f"assert len(store.history()) == {2 * LARGE}")


def test_where_webgl_is_missing_it_says_so_and_clusters_are_labelled(
    chromium, lab_server
):
    browser = launch_without_webgl(chromium.browser)
    path = "no-webgl/notebook.ipynb"
    write_notebook(lab_server.notebooks / path, [CELL])
    lab = LabPage(browser.new_page(), lab_server, path)
    (lab.folder / "labels_file").write_text(lab.labels.name)
    lab.open()
    lab.run_all()
    lab.page.get_by_role("alert").get_by_text("offers no WebGL").wait_for()
    driver = Map(lab, is_drawn=False)
    lab.page.get_by_label("show cluster").select_option("1")
    driver.wait_list(20)
    driver.press("Shift+A")
    driver.press("b")
    driver.wait_labelled(20, of=20)
    assert lab.stored() == dict.fromkeys(range(60, 80), "blank")
    lab.close()
    browser.close()
