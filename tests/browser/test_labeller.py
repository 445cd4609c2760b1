"""The labeller in a real browser: every key, and that no label is lost or misplaced."""

import base64
import io
import os
import signal
import sqlite3

import numpy as np
import pytest
from PIL import Image

from helpers.labels import LABELS, open_label_store
from helpers.patterns import open_patterns
from helpers.simulate import write_simulated
from helpers.widgets.pixels import colour_tables, encode_pattern

pytestmark = pytest.mark.browser

N = 40
OPEN = """
import os
from pathlib import Path
import numpy as np
from helpers.labels import open_label_store
from helpers.patterns import open_patterns
from helpers.widgets import label_patterns
Path("pid").write_text(str(os.getpid()))
patterns = open_patterns("../patterns.h5")
file = Path("labels_file").read_text()
store = open_label_store(file, patterns.fingerprint, len(patterns))
"""
SHOW = """
labeller = label_patterns(
    patterns, store, labeller="anna", hit_score=range(len(patterns))
)
labeller
"""
SECOND_VIEW = "labeller"
PICTURE = "(widget) => widget.querySelector('.sh-canvas').toDataURL()"
ASKS_BEFORE_LEAVING = """() => {
    const event = new Event('beforeunload', { cancelable: true });
    window.dispatchEvent(event);
    return event.defaultPrevented;
}"""


@pytest.fixture(scope="module")
def patterns(lab_server):
    path = lab_server.notebooks / "patterns.h5"
    write_simulated(path, N, seed=1)
    return open_patterns(path)


class Driver:
    """What a person does with one labeller, and sees."""

    def __init__(self, lab, n=0):
        self.lab = lab
        self.page = lab.page
        self.widget = lab.widget(n)
        self.focus()

    def focus(self):
        self.widget.locator(".sh-box").click()

    @property
    def pattern(self):
        return int(self.widget.locator(".sh-number").input_value())

    @property
    def word(self):
        return self.widget.locator(".sh-mark").inner_text()

    @property
    def banner(self):
        return self.widget.locator(".sh-banner")

    def text(self, part):
        return self.widget.locator(f".sh-{part}").inner_text()

    def wait_for_pattern(self, pattern):
        script = "([field, value]) => field.value === value"
        field = self.widget.locator(".sh-number").element_handle()
        self.page.wait_for_function(script, arg=[field, str(pattern)])

    def wait_settled(self):
        """Wait until the pattern has been seen long enough to be labelled."""
        self.widget.locator(".sh-box[aria-busy=false]").wait_for()

    def label(self, key):
        """Press one key; return the pattern that was labelled."""
        self.wait_settled()
        before = self.pattern
        self.page.keyboard.press(key)
        assert self.pattern != before
        return before

    def wait_saved(self):
        self.widget.locator(".sh-saving", has_text="all saved").wait_for()

    def button(self, name):
        return self.widget.get_by_role("button", name=name, exact=True)

    def picture(self):
        """Return what the canvas holds as a PNG."""
        return base64.b64decode(self.widget.evaluate(PICTURE).partition(",")[2])


@pytest.fixture
def lab(run_notebook, patterns):
    return run_notebook([OPEN, SHOW, SECOND_VIEW])


def test_every_label_by_key_and_by_button(lab):
    driver = Driver(lab)
    expected = {}
    for i, word in enumerate(LABELS):
        expected[driver.label(str(i + 1))] = word
        expected[driver.label(word[0])] = word
        driver.wait_settled()
        expected[driver.pattern] = word
        driver.button(f"label {word}").click()
    driver.wait_saved()
    assert len(expected) == 3 * len(LABELS)
    assert lab.stored() == expected
    assert driver.text("progress-total").startswith(f"{len(expected)} of {N} labelled")
    assert "per minute" in driver.text("progress-total")
    assert "single 3" in driver.text("legends")


def test_flatten_and_crop_by_key_and_by_button(lab):
    driver = Driver(lab)
    driver.wait_settled()
    plain, canvas = driver.picture(), driver.widget.locator("canvas").first
    lab.page.keyboard.press("t")
    flat = driver.picture()
    assert flat != plain
    flatten = driver.widget.locator("button", has_text="flatten")
    assert flatten.get_attribute("aria-pressed") == "true"
    flatten.click()
    assert driver.picture() == plain
    whole = canvas.get_attribute("style")
    lab.page.keyboard.press("v")
    cropped = canvas.get_attribute("style")
    assert cropped.startswith("transform: scale(")
    driver.widget.locator("button", has_text="signal").click()
    assert canvas.get_attribute("style") == whole or cropped == whole


def test_every_way_to_move(lab):
    driver = Driver(lab)
    press = lab.page.keyboard.press
    driver.label("1")
    steps = [("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowLeft", 0), (" ", 1)]
    for key, expected in steps:
        press(key)
        assert driver.pattern == expected
    assert not driver.widget.locator(".sh-note").is_visible()
    press("g")
    press("3")
    press("0")
    press("Enter")
    assert driver.pattern == 30
    press("f")
    assert driver.pattern == 1
    press("End")
    assert driver.pattern == 1
    for name, expected in [("next pattern", 2), ("previous pattern", 1)]:
        driver.button(name).click()
        assert driver.pattern == expected
    driver.widget.get_by_label("order of patterns").select_option("hit score")
    driver.wait_for_pattern(N - 1)
    driver.widget.get_by_label("which patterns").select_option("single")
    driver.wait_for_pattern(0)
    assert driver.text("place") == "1 of 1"


def test_the_picture_is_the_pattern_and_changes_without_the_kernel(lab, patterns):
    driver = Driver(lab)
    table = np.frombuffer(colour_tables(), np.uint8)[:768].reshape(256, 3)
    codes = encode_pattern(patterns[0], patterns.bad_pixels, 1.0).codes
    seen = driver.picture()
    pixels = np.asarray(Image.open(io.BytesIO(seen)).convert("RGB"))
    assert np.array_equal(pixels, table[codes])

    os.kill(int((lab.folder / "pid").read_text()), signal.SIGSTOP)
    try:
        for key in ("l", "]", "[", "}", "c", "x"):
            before = driver.picture()
            lab.page.keyboard.press(key)
            assert driver.picture() != before, key
        lab.page.keyboard.press("0")
        assert driver.picture() == seen
        lab.page.keyboard.press("+")
        assert "scale(1.5)" in driver.widget.locator(".sh-canvas").get_attribute(
            "style"
        )
        lab.page.keyboard.press("?")
        assert driver.widget.get_by_role("dialog").is_visible()
        lab.page.keyboard.press("?")
        assert not driver.widget.get_by_role("dialog").is_visible()
    finally:
        os.kill(int((lab.folder / "pid").read_text()), signal.SIGCONT)


def test_no_key_reaches_the_notebook(lab):
    driver = Driver(lab)
    before = lab.cells()
    for key in "abcdefghijklmnopqrstuvwxyz0123456789.,-+":
        lab.page.keyboard.press(key)
        if lab.page.evaluate("document.activeElement.matches('input')"):
            lab.page.keyboard.press("Enter")
    for key in ("d", "d", "0", "0", "Enter", "Delete", "Backspace", "PageDown", "Home"):
        lab.page.keyboard.press(key)
    assert lab.cells() == before
    assert lab.page.get_by_role("dialog", name="Restart").count() == 0
    assert driver.widget.evaluate("(widget) => widget === document.activeElement")


def test_a_double_press_a_held_key_or_a_hidden_pattern_takes_no_label(lab):
    driver = Driver(lab)
    driver.wait_settled()
    driver.widget.evaluate(PRESS_TWICE, {})
    assert driver.pattern == 1
    driver.wait_settled()
    driver.widget.evaluate(PRESS_TWICE, {"repeat": True})
    lab.page.evaluate("document.querySelector('.jp-Notebook').style.display = 'none'")
    driver.widget.evaluate(PRESS_TWICE, {})
    lab.page.evaluate("document.querySelector('.jp-Notebook').style.display = ''")
    assert driver.pattern == 1
    driver.wait_saved()
    assert lab.stored() == {0: "single"}


PRESS_TWICE = """(widget, more) => {
    for (let i = 0; i < 2; i += 1)
        widget.dispatchEvent(new KeyboardEvent('keydown', { key: '1', ...more }));
}"""


def test_undo_without_limit_even_after_a_reload(lab):
    driver = Driver(lab)
    for _ in range(12):
        driver.label("2")
    driver.wait_saved()
    for pattern in range(11, 5, -1):
        lab.page.keyboard.press("z")
        driver.wait_for_pattern(pattern)
    driver.wait_saved()
    assert sorted(lab.stored()) == list(range(6))

    lab.command("docmanager:save")
    lab.open()
    driver = Driver(lab)
    assert driver.pattern == 6
    for pattern in range(5, -1, -1):
        lab.page.keyboard.press("Backspace")
        driver.wait_for_pattern(pattern)
    driver.wait_saved()
    assert lab.stored() == {}
    lab.page.keyboard.press("z")
    driver.banner.get_by_text("no label of yours").wait_for()


def test_a_second_view_shows_the_labels_of_the_first(lab):
    second = Driver(lab, 1)
    first = Driver(lab, 0)
    for _ in range(3):
        first.label("4")
    first.wait_saved()
    total = second.widget.locator(".sh-progress-total")
    total.get_by_text(f"3 of {N} labelled").wait_for()
    second.focus()
    assert second.word == "blank"
    lab.page.keyboard.press("f")
    assert second.pattern == 3
    second.label("1")
    second.wait_saved()
    assert lab.stored() == {0: "blank", 1: "blank", 2: "blank", 3: "single"}


def test_what_is_lost_on_the_way_is_sent_again(lab):
    driver = Driver(lab)
    lab.command("docmanager:save")
    lab.page.evaluate(LOSE_MESSAGES)
    assert not lab.page.evaluate(ASKS_BEFORE_LEAVING)
    driver.label("1")
    driver.label("1")
    assert driver.text("saving") == "saving 2…"
    assert lab.page.evaluate(ASKS_BEFORE_LEAVING)
    lab.widget(0, "dead")
    assert "Not saved yet: 2" in driver.banner.inner_text()
    frozen_at = driver.pattern
    lab.page.keyboard.press("2")
    assert driver.pattern == frozen_at
    assert lab.stored() == {}
    lab.page.evaluate(RECONNECT)
    driver.wait_saved()
    lab.widget()
    assert lab.stored() == {0: "single", 1: "single"}
    assert not driver.banner.is_visible()


# Messages to the kernel vanish, as when a websocket is gone and nobody has noticed.
LOSE_MESSAGES = """() => {
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function () {};
    window.stopLosing = () => { WebSocket.prototype.send = send; };
}"""
RECONNECT = """async () => {
    window.stopLosing();
    const panels = [...jupyterapp.shell.widgets('main')];
    const panel = panels.find((each) => each.sessionContext);
    await panel.sessionContext.session.kernel.reconnect();
}"""


def test_a_silent_kernel_leaves_at_most_eight_labels_unsaved(lab):
    driver = Driver(lab)
    pid = int((lab.folder / "pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        while driver.widget.get_attribute("data-state") == "ready":
            lab.page.keyboard.press("1")
        unsaved = int(driver.widget.locator(".sh-saving").get_attribute("data-unsaved"))
        assert 1 <= unsaved <= 8
        assert driver.pattern == unsaved
    finally:
        os.kill(pid, signal.SIGCONT)
    driver.wait_saved()
    assert lab.stored() == dict.fromkeys(range(unsaved), "single")


@pytest.mark.parametrize("trouble", ["full disk", "read-only file"])
def test_a_label_that_cannot_be_written_is_taken_back_visibly(lab, trouble):
    begin, end = TROUBLES[trouble]
    driver = Driver(lab)
    for _ in range(2):
        driver.label("1")
    driver.wait_saved()
    lab.run_code(begin)
    driver.wait_settled()
    lab.page.keyboard.press("2")
    driver.banner.get_by_text("label of pattern 2 was not saved").wait_for()
    driver.wait_for_pattern(2)
    assert driver.word == "unlabelled"
    assert driver.text("progress-total").startswith(f"2 of {N}")
    assert driver.text("saving") == "all saved"
    lab.run_code(end)
    driver.label("3")
    driver.wait_saved()
    assert not driver.banner.is_visible()
    assert lab.stored() == {0: "single", 1: "single", 2: "other"}


# No file may grow beyond a byte: to SQLite that is a full disk.
FILL_DISK = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
"""
FREE_DISK = "resource.setrlimit(resource.RLIMIT_FSIZE, limits)"
# Whoever runs the tests may be allowed to write anywhere: open the file to read alone.
TAKE_RIGHTS = """
from helpers.labels.database import Database
writable = store._database
read_only = f"sqlite:///file:{Path(file).absolute()}?mode=ro&uri=true"
store._database = Database(read_only)
"""
GIVE_RIGHTS = "store._database = writable"
TROUBLES = {
    "full disk": (FILL_DISK, FREE_DISK),
    "read-only file": (TAKE_RIGHTS, GIVE_RIGHTS),
}


def test_a_store_that_is_pulled_away_freezes_the_page_visibly(lab, tmp_path):
    driver = Driver(lab)
    for _ in range(3):
        driver.label("1")
    driver.wait_saved()
    lab.labels.rename(tmp_path / "away.sqlite")
    driver.wait_settled()
    lab.page.keyboard.press("2")
    driver.banner.get_by_text("label of pattern 3 was not saved").wait_for()
    driver.banner.get_by_text("the file is gone from its place").wait_for()
    lab.page.locator(".sh[data-store=lost]").first.wait_for()
    driver.wait_for_pattern(3)
    driver.wait_settled()
    lab.page.keyboard.press("1")
    lab.page.keyboard.press("ArrowRight")
    driver.wait_for_pattern(4)
    assert driver.word == "unlabelled"
    assert driver.text("progress-total").startswith(f"3 of {N}")
    driver.button("write this session's labels to a new store").click()
    driver.banner.get_by_text("Written: ").wait_for()
    assert not lab.labels.exists()
    (rescued,) = lab.labels.parent.glob("labels-rescued-*.sqlite")
    rescued.rename(lab.labels)
    assert lab.stored() == dict.fromkeys(range(3), "single")


def test_two_labellers_at_once_on_one_store(lab, patterns):
    driver = Driver(lab)
    with open_label_store(lab.labels, patterns.fingerprint, N) as of_bob:
        for pattern in range(4):
            word = "blank" if pattern == 2 else "single"
            where = {"labeller": "bob", "session": "bob", "seq": pattern + 1}
            of_bob.record(pattern, word, **where)
            driver.label("1")
        driver.wait_saved()
        assert of_bob.votes()[:5].tolist() == [
            ["single", "single"],
            ["single", "single"],
            ["single", "blank"],
            ["single", "single"],
            ["", ""],
        ]
    driver.widget.get_by_label("which patterns").select_option("labellers disagree")
    driver.wait_for_pattern(2)
    assert driver.text("place") == "1 of 1"
    driver.widget.get_by_text("by you; blank by bob", exact=True).wait_for()


ASKED = """
from helpers.labels import Queue
score = np.linspace(0, 1, len(patterns))
queue = Queue(np.array([17, 3, 30]), np.array(["uncertain", "audit", "diverse"]))
if not store.labellers():
    for pattern in range(10):
        store.record(pattern, "blank", labeller="anna", session="s", seq=pattern + 1)
label_patterns(
    patterns, store, labeller="anna", order="queue", queue=queue, prediction=score,
    relabel_share=1.0, keys={"single": "j"},
)
"""


@pytest.fixture
def asking(run_notebook, patterns):
    return Driver(run_notebook([OPEN, ASKED]))


def test_what_is_asked_for_comes_first_and_says_why(asking):
    asking.wait_settled()
    assert asking.pattern == 17
    assert "why: uncertain" in asking.text("values")
    assert "prediction" in asking.text("values")
    order = asking.widget.get_by_label("order of patterns")
    assert order.input_value() == "queue"
    order.select_option("uncertainty")
    asking.wait_for_pattern(int(np.abs(np.linspace(0, 1, N) - 0.5).argmin()))
    order.select_option("queue")
    asking.wait_for_pattern(17)


def test_keys_that_a_person_prefers(asking):
    asking.wait_settled()
    asking.page.keyboard.press("s")
    assert asking.pattern == 17
    asking.page.keyboard.press("?")
    row = asking.widget.get_by_role("row", name="label single")
    assert row.inner_text().split("\t")[0].strip() == "j"
    asking.page.keyboard.press("?")
    assert asking.label("j") == 17
    asking.wait_saved()
    assert asking.lab.stored()[17] == "single"


def test_a_pattern_that_comes_back_is_labelled_blind_and_can_be_undone(asking):
    asking.label("2")
    asking.wait_settled()
    again = asking.pattern
    assert again in range(10)  # labelled blank before
    assert asking.word == "unlabelled"
    assert asking.text("who") == ""
    assert "prediction" not in asking.text("values")
    assert asking.label("3") == again
    asking.wait_saved()
    assert asking.lab.stored()[again] == "other"

    asking.page.keyboard.press("z")
    asking.wait_for_pattern(again)
    asking.wait_saved()
    assert asking.word == "unlabelled"
    assert asking.lab.stored()[again] == "blank"
    assert asking.label("5") == again
    asking.wait_saved()
    with sqlite3.connect(asking.lab.labels) as database:
        query = "SELECT label FROM label_events WHERE shown LIKE 'blind repeat, log%'"
        assert database.execute(query).fetchall() == [("other",), ("unsure",)]
    asking.page.keyboard.press("ArrowLeft")
    assert (asking.pattern, asking.word) == (again, "unsure")


def test_a_killed_kernel_loses_nothing_that_was_shown_as_saved(lab):
    labelled = 0
    for n in (4, 5, 6):
        driver = Driver(lab)
        assert driver.pattern == labelled  # it resumes at the first unlabelled
        for _ in range(n):
            driver.label("1")
        saving = driver.widget.locator(".sh-saving")
        unsaved = int(saving.get_attribute("data-unsaved"))
        os.kill(int((lab.folder / "pid").read_text()), signal.SIGKILL)
        for _ in range(3):
            lab.page.keyboard.press("2")
        labels = lab.stored()
        shown_as_saved = range(labelled + n - unsaved)
        assert set(shown_as_saved) <= set(labels)
        assert sorted(labels) == list(range(len(labels)))
        lab.page.get_by_role("button", name="Ok", exact=True).click()
        lab.page.wait_for_function(KERNEL_CAME_BACK)
        lab.run_all()
        labelled = len(lab.stored())
    with sqlite3.connect(lab.labels) as database:
        (events,) = database.execute("SELECT count(*) FROM label_events").fetchone()
    assert events == labelled


KERNEL_CAME_BACK = """() => {
    const panels = [...jupyterapp.shell.widgets('main')];
    const { session } = panels.find((each) => each.sessionContext).sessionContext;
    const kernel = session?.kernel;
    return kernel?.status === 'idle' && kernel.connectionStatus === 'connected';
}"""
