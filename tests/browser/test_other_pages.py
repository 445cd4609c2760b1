"""The widgets in Notebook 7 and in JupyterLab's simple mode: shown, by key, saved."""

import pytest
from lab import LabPage, write_notebook

from helpers.simulate import write_simulated

pytestmark = pytest.mark.browser

N = 30
CELLS = [
    """
from helpers.labels import open_label_store
from helpers.patterns import open_patterns
from helpers.widgets import browse_patterns, label_patterns, show_gallery
patterns = open_patterns("patterns.h5")
store = open_label_store("labels.sqlite", patterns.fingerprint, len(patterns))
""",
    'show_gallery(patterns, range(len(patterns)), store=store, labeller="anna")',
    "browse_patterns(patterns)",
    'label_patterns(patterns, store, labeller="anna")',
]


@pytest.fixture(params=["notebooks", "doc/tree"], ids=["notebook", "simple"])
def lab(request, chromium, lab_server, shared_notebooks):
    path = f"{request.node.name}/notebook.ipynb"
    write_notebook(lab_server.notebooks / path, CELLS)
    folder = (lab_server.notebooks / path).parent
    write_simulated(folder / "patterns.h5", N, seed=1)
    page = chromium.new_page()
    lab = LabPage(page, lab_server, path, request.param)
    lab.open()
    lab.run_all()
    yield lab
    lab.close()


def find(lab, kind):
    """Return a widget, once it can be used."""
    return lab.page.locator(f".sh-{kind}[data-state=ready]")


def wait_saved(lab, widget, given):
    widget.locator(".sh-saving", has_text="all saved").wait_for()
    assert lab.stored() == given


def press(lab, widget, key):
    """Press a key once the pattern has been seen long enough to be labelled."""
    widget.locator("[aria-busy=false]").first.wait_for()
    lab.page.wait_for_timeout(300)
    lab.page.keyboard.press(key)


def test_labels_are_given_by_key_saved_undone_and_still_there_after_a_reload(lab):
    labeller = find(lab, "labeller")
    labeller.locator(".sh-box").click()
    given = {}
    for key, word in (("1", "single"), ("m", "multiple"), ("4", "blank")):
        pattern = int(labeller.locator(".sh-number").input_value())
        press(lab, labeller, key)
        given[pattern] = word
        labeller.locator(f"text={len(given)} of {N} labelled").wait_for()
        wait_saved(lab, labeller, given)
    press(lab, labeller, "z")
    del given[list(given)[-1]]
    labeller.locator(f"text=2 of {N} labelled").wait_for()
    wait_saved(lab, labeller, given)
    assert len(lab.cells()) == len(CELLS)  # no key has become a command
    lab.open()
    lab.run_all()
    again = find(lab, "labeller")
    again.locator(f"text=2 of {N} labelled").wait_for()


def test_gallery_and_browser_answer_to_mouse_and_keys(lab):
    gallery = find(lab, "gallery")
    gallery.locator(".sh-thumb").nth(5).click()
    press(lab, gallery, "2")
    gallery.locator(f"text=1 of {N} labelled").wait_for()
    wait_saved(lab, gallery, {5: "multiple"})
    browser = find(lab, "browser")
    browser.locator(".sh-box").click()
    before = browser.locator(".sh-number").input_value()
    lab.page.keyboard.press("ArrowRight")
    lab.page.wait_for_function(
        "([number, before]) => number.value !== before",
        arg=[browser.locator(".sh-number").element_handle(), before],
    )
