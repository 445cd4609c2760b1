"""The gallery, the pattern browser, and what is left of them without a kernel."""

import sqlite3

import numpy as np
import papermill
import pytest

from helpers.run.execution import execute_notebook, write_report
from helpers.simulate import write_simulated

pytestmark = pytest.mark.browser

N = 30
OPEN = """
from pathlib import Path
import numpy as np
from helpers.labels import Queue, open_label_store
from helpers.patterns import open_patterns
from helpers.widgets import browse_patterns, label_patterns, show_gallery
patterns = open_patterns("../some_patterns.h5")
file = Path("labels_file").read_text()
store = open_label_store(file, patterns.fingerprint, len(patterns))
score = np.linspace(0, 1, len(patterns))
queue = Queue(np.array([7, 2]), np.array(["uncertain", "audit"]))
"""
GALLERY = """
show_gallery(
    patterns, range(len(patterns)), store=store, labeller="anna",
    score=score, score_name="prediction", threshold=0.75, per_page=12,
    hit_score=np.roll(score, 5), queue=queue, work_dir=".",
)
"""
BROWSER = "browse_patterns(patterns, hit_score=np.roll(score, 5), photons=score)"


@pytest.fixture(scope="module", autouse=True)
def _patterns(lab_server):
    write_simulated(lab_server.notebooks / "some_patterns.h5", N, seed=1)


LATE = """
import time
gallery = show_gallery(patterns, range(12), per_page=12)
begun, answer = time.monotonic(), gallery._answers["hello"]
def answer_late(content):
    if time.monotonic() > begun + 6:
        answer(content)
gallery._answers["hello"] = answer_late
gallery
"""


class Driver:
    """What a person does with a gallery, and sees."""

    def __init__(self, lab):
        self.page = lab.page
        self.lab = lab
        self.widget = lab.widget()
        self.wait_settled()
        self.widget.focus()

    def wait_settled(self):
        """Wait until the page has been seen long enough to be labelled."""
        self.widget.locator(".sh-grid[aria-busy=false]").wait_for()

    def thumb(self, place):
        return self.widget.locator(".sh-thumb").nth(place)

    def button(self, name):
        return self.widget.get_by_role("button", name=name)

    def choose(self, list_, word):
        self.widget.get_by_label(list_).select_option(word)
        self.wait_settled()

    @property
    def selected(self):
        return self.widget.locator(".sh-thumb[aria-selected=true]").count()

    def press(self, key):
        self.wait_settled()
        self.page.keyboard.press(key)

    def wait_saved(self):
        self.widget.locator(".sh-saving", has_text="all saved").wait_for()

    def wait_labelled(self, n):
        total = self.widget.locator(".sh-progress-total")
        total.get_by_text(f"{n} of {N} labelled").wait_for()
        self.wait_saved()

    @property
    def shown(self):
        """The indices on the page, in order."""
        feet = self.widget.locator(".sh-thumb-foot > span:first-child:visible")
        return [int(text) for text in feet.all_inner_texts()]


@pytest.fixture
def lab(run_notebook):
    return run_notebook([OPEN, GALLERY, BROWSER])


def test_labels_by_click_range_cursor_and_page(lab):
    driver = Driver(lab)
    driver.thumb(1).click()
    driver.thumb(3).click(modifiers=["Shift"])
    assert driver.selected == 3
    driver.press("2")
    expected = dict.fromkeys((1, 2, 3), "multiple")
    driver.thumb(0).click()
    driver.thumb(5).click()
    driver.button("label single: the selected ones").click()
    expected |= {0: "single", 5: "single"}
    driver.wait_labelled(5)
    assert lab.stored() == expected

    driver.press("ArrowRight")
    driver.press("ArrowDown")
    driver.press("Shift+ArrowLeft")
    assert driver.selected == 2
    driver.press("d")
    assert driver.selected == 0
    driver.press("r")
    assert driver.selected == 12 - 5
    driver.press("b")
    expected |= {p: "blank" for p in range(12) if p not in expected}
    driver.wait_labelled(12)

    driver.button("next page").click()
    driver.press("Shift+O")
    driver.wait_labelled(24)
    assert driver.shown == list(range(12, 24))
    expected |= dict.fromkeys(range(12, 24), "other")
    assert lab.stored() == expected

    driver.press("z")  # the whole page at once
    driver.wait_labelled(12)
    driver.press("z")
    driver.wait_labelled(5)
    assert sorted(lab.stored()) == [0, 1, 2, 3, 5]


def test_sorting_filtering_threshold_and_page_size(lab):
    driver = Driver(lab)
    line = driver.widget.get_by_role("separator")
    assert not line.is_visible()
    driver.choose("order of patterns", "highest first")
    assert driver.shown == list(range(N - 1, N - 13, -1))
    above = int((np.linspace(0, 1, N) >= 0.75).sum())
    assert f"{above} before this line, {N - above} after" in line.inner_text()
    before_line = line.evaluate("(line) => [...line.parentNode.children].indexOf(line)")
    assert before_line == above
    driver.choose("patterns a page", "24")
    assert len(driver.shown) == 24
    driver.press("PageDown")
    driver.press("1")
    assert driver.shown == list(range(N - 25, -1, -1))
    driver.wait_labelled(1)
    driver.choose("which patterns", "single")
    assert driver.shown == [N - 25]
    driver.choose("which patterns", "all")
    driver.choose("order of patterns", "hit score")
    assert driver.shown[:3] == [4, 3, 2]  # the highest score was rolled there
    driver.choose("order of patterns", "queue")
    assert driver.shown == [7, 2]
    driver.thumb(0).hover()
    large = driver.widget.locator(".sh-large")
    large.get_by_text("why: uncertain").wait_for()
    driver.widget.get_by_label("which patterns").select_option("blank")
    driver.widget.get_by_text("Nothing in the queue is unlabelled").wait_for()
    assert driver.shown == []


def test_resting_the_pointer_enlarges(lab):
    driver = Driver(lab)
    driver.thumb(4).hover()
    large = driver.widget.locator(".sh-large")
    large.get_by_text("pattern 4: unlabelled").wait_for()
    script = "(large) => large.querySelector('canvas').width === 257"
    driver.page.wait_for_function(script, arg=large.element_handle())
    driver.widget.locator(".sh-head").hover()
    large.wait_for(state="hidden")


def test_labels_of_a_page_that_cannot_be_written_are_taken_back(lab):
    driver = Driver(lab)
    with sqlite3.connect(lab.labels) as database:
        database.execute(REFUSE_AFTER_FIVE)
    driver.button("label single: all on this page").click()
    driver.widget.get_by_text("labels of 12 patterns").wait_for()  # all or none
    driver.wait_labelled(0)
    assert lab.stored() == {}
    assert driver.widget.locator(".sh-thumb.sh-is-single").count() == 0


REFUSE_AFTER_FIVE = """
CREATE TRIGGER full BEFORE INSERT ON label_events
WHEN (SELECT count(*) FROM label_events) >= 5
BEGIN SELECT RAISE(ABORT, 'there is no more room'); END"""


def test_the_browser_goes_everywhere(lab):
    widget = lab.widget(1)
    widget.locator(".sh-box").click()
    field = widget.locator(".sh-number")
    press = lab.page.keyboard.press

    def shown():
        return int(field.input_value())

    for key, expected in [
        ("ArrowRight", 1),
        ("PageDown", 11),
        ("ArrowLeft", 10),
        ("PageUp", 0),
    ]:
        press(key)
        assert shown() == expected
    field.fill("17")
    press("Enter")
    assert shown() == 17
    widget.locator(".sh-wide").fill("20")
    assert shown() == 20
    press("n")
    script = "(field) => field.value === '4'"  # the highest score was rolled there
    lab.page.wait_for_function(script, arg=field.element_handle())
    press("n")
    assert shown() == 3
    field.fill("99")
    press("Enter")
    widget.get_by_text("There is no pattern 99").wait_for()
    score = widget.locator(".sh-value", has_text="hit score")
    assert score.inner_text() == "hit score 0.966"


LABELLER = "label_patterns(patterns, store, labeller='anna')"


def write_widgets(notebooks):
    """Write a notebook with one widget of each kind; give its page and file."""
    lab = notebooks.write([OPEN, GALLERY, BROWSER, LABELLER])
    (lab.folder / "labels_file").write_text("labels.sqlite")
    return lab, lab.folder / "notebook.ipynb"


def test_an_executed_copy_shows_pictures_in_jupyterlab_and_in_the_report(
    shared_notebooks, lab_server
):
    lab, path = write_widgets(shared_notebooks)
    execute_notebook(path, path, {})
    lab_server.trust(path)
    lab.open()
    pictures = lab.page.locator(".jp-OutputArea-output img")
    pictures.nth(2).wait_for()
    assert pictures.count() == 3
    assert min(pictures.evaluate_all(WIDTHS)) > 100

    export = lab.folder / "report.html"
    write_report([path], export)
    lab.page.goto(export.as_uri())
    widths = lab.page.locator("img").evaluate_all(WIDTHS)
    assert len(widths) == 3
    assert min(widths) > 100


def test_reopened_without_its_kernel_a_widget_draws_its_picture(
    shared_notebooks, lab_server
):
    lab, path = write_widgets(shared_notebooks)
    executed = papermill.execute_notebook(
        path, path, cwd=lab.folder, progress_bar=False
    )
    outputs = [cell.outputs[-1].data for cell in executed.cells[1:]]
    assert all("image/png" in output for output in outputs)
    lab_server.trust(path)
    lab.open_with_widgets()
    for n in range(3):
        widget = lab.widget(n, "dead")
        widget.get_by_text("No answer from the kernel").wait_for()
    picture = lab.widget(0, "dead").locator(".sh-preview")
    assert picture.evaluate("(image) => image.naturalWidth") > 100
    for n in (1, 2):
        canvas = lab.widget(n, "dead").locator(".sh-canvas")
        lab.page.wait_for_function(IS_DRAWN, arg=canvas.element_handle())


WIDTHS = "(all) => all.map((image) => image.width)"
IS_DRAWN = "(canvas) => canvas.width === 257 && canvas.toDataURL().length > 2000"


def test_the_page_of_a_busy_kernel_is_filled_when_it_answers(run_notebook):
    lab = run_notebook([OPEN, LATE])
    lab.page.locator("img.sh-preview").wait_for()
    driver = Driver(lab)
    assert driver.thumb(11).is_visible()
    assert driver.widget.locator("img.sh-preview").count() == 0
