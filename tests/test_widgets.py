"""The kernel's side of the widgets; tests/browser drives the pages."""

import base64
import io
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from helpers.errors import LabelsError, ParameterError
from helpers.labels import LABELS, open_label_store
from helpers.patterns import open_patterns
from helpers.simulate import write_simulated
from helpers.widgets import browse_patterns, label_patterns, show_gallery
from helpers.widgets.desk import LabelDesk
from helpers.widgets.orders import check_facts, keep_patterns, sort_patterns
from helpers.widgets.pixels import (
    BAD,
    COLOUR_MAPS,
    LEVELS,
    colour_tables,
    decode_pixels,
    encode_pattern,
    shrink_pattern,
)

N = 12
PIXELS = hnp.arrays(np.float32, (5, 4), elements=st.floats(-1e3, 1e6, width=32))


@pytest.fixture(scope="module")
def patterns(tmp_path_factory):
    path = tmp_path_factory.mktemp("widgets") / "patterns.h5"
    write_simulated(path, N, seed=1)
    return open_patterns(path)


@pytest.fixture
def store(tmp_path):
    with open_label_store(tmp_path / "labels.sqlite", "these patterns", N) as store:
        yield store


@pytest.fixture
def desk(store):
    return LabelDesk(store, "anna", "morning")


def label(seq, pattern, word="single"):
    return {"kind": "label", "seq": seq, "pattern": pattern, "label": word}


def undo(seq, **extra):
    return {"kind": "undo", "seq": seq, **extra}


def listen(widget):
    """Collect what a widget sends, as (content, buffers)."""
    sent = []
    widget.send = lambda content, buffers=(): sent.append((content, buffers))
    return sent


def say(widget, **content):
    """Answer a message as if the page had sent it; return the answers."""
    sent = listen(widget)
    widget._receive(widget, content, [])
    return sent


class TestPixels:
    @given(PIXELS)
    def test_a_code_gives_its_value_back_within_half_a_step(self, pattern):
        pixels = encode_pattern(pattern, np.zeros(pattern.shape, dtype=bool))
        values = np.maximum(pattern, 0)
        step = np.log1p(pixels.top / pixels.knee) / LEVELS
        error = np.log1p(decode_pixels(pixels) / pixels.knee) - np.log1p(
            values / pixels.knee
        )
        # Float32 logarithms add about 1e-6.
        assert np.abs(error).max() <= step / 2 + 1e-5

    def test_one_photon_can_be_told_from_none_beside_a_million(self):
        pattern = np.array([[0, 1, 2, 1e6]], dtype=np.float32)
        pixels = encode_pattern(pattern, np.zeros((1, 4), dtype=bool), knee=1.0)
        assert list(pixels.codes[0]) == sorted(set(pixels.codes[0]))

    def test_bad_pixels_are_marked_and_set_no_scale(self):
        pattern = np.array([[1, 2, 1e9]], dtype=np.float32)
        bad = np.array([[False, False, True]])
        pixels = encode_pattern(pattern, bad)
        assert pixels.codes[0, 2] == BAD
        assert pixels.top == 2
        assert np.isnan(decode_pixels(pixels)[0, 2])

    @pytest.mark.parametrize("value", [0, -3])
    def test_a_pattern_without_signal_is_dark(self, value):
        pattern = np.full((3, 3), value, dtype=np.float32)
        pixels = encode_pattern(pattern, np.zeros((3, 3), dtype=bool))
        assert not pixels.codes.any()
        assert pixels.top > 0

    def test_the_pattern_is_left_as_it_was(self):
        pattern = np.array([[-1, 5]], dtype=np.float32)
        encode_pattern(pattern, np.array([[False, True]]))
        assert pattern.tolist() == [[-1, 5]]

    @given(
        PIXELS,
        hnp.arrays(bool, (5, 4)),
        st.integers(1, 6),
    )
    def test_shrinking_averages_blocks_of_good_pixels(self, pattern, bad, longest):
        k = -(-5 // longest)
        small, small_bad = shrink_pattern(pattern, bad, longest)
        for row, column in np.ndindex(small.shape):
            block = np.s_[row * k : (row + 1) * k, column * k : (column + 1) * k]
            good = pattern[block][~bad[block]]
            assert small_bad[row, column] == (good.size == 0)
            if k > 1 and good.size:
                # Sums in another order, in float32.
                close = pytest.approx(good.mean(), rel=1e-5, abs=0.5)
                assert small[row, column] == close

    def test_every_colour_map_has_a_colour_for_bad_pixels_that_it_lacks(self):
        tables = np.frombuffer(colour_tables(), dtype=np.uint8)
        for table in tables.reshape(len(COLOUR_MAPS), 256, 3).astype(int):
            distance = np.abs(table[:BAD] - table[BAD]).max(axis=1)
            assert distance.min() > 12


class TestOrders:
    facts = check_facts(
        4,
        hit_score=[3, np.nan, 9, 1],
        distance=[0.5, 0.1, np.nan, 0.3],
        prediction=[0.9, 0.45, 0.1, np.nan],
    )

    @pytest.mark.parametrize(
        ("order", "expected"),
        [
            ("as recorded", [0, 1, 2, 3]),
            ("hit score", [2, 0, 3, 1]),
            ("ranking", [1, 3, 0, 2]),
            ("uncertainty", [1, 0, 2, 3]),
        ],
    )
    def test_named_orders(self, order, expected):
        assert sort_patterns(order, 4, self.facts).tolist() == expected

    def test_random_order_has_all_and_depends_on_the_seed_alone(self):
        first, again, other = (
            sort_patterns("random", 50, check_facts(50), seed) for seed in (1, 1, 2)
        )
        assert sorted(first) == list(range(50))
        assert first.tolist() == again.tolist() != other.tolist()

    @pytest.mark.parametrize(
        ("only", "expected"),
        [
            ("all", [3, 1, 0, 2]),
            ("unlabelled", [1, 2]),
            ("single", [3, 0]),
            ("labellers disagree", [0]),
        ],
    )
    def test_filters_keep_the_order(self, only, expected):
        labels = np.array(["single", "", "", "single"])
        disagree = np.array([True, False, False, False])
        kept = keep_patterns(np.array([3, 1, 0, 2]), only, labels, disagree)
        assert kept.tolist() == expected

    def test_an_order_whose_numbers_are_missing_is_refused_by_name(self):
        with pytest.raises(ParameterError, match=r"'ranking'.*'as recorded', 'random'"):
            sort_patterns("ranking", 4, check_facts(4))

    def test_the_rank_counts_from_the_smallest_distance(self):
        facts = check_facts(4, distance=[0.5, 0.1, np.nan, 0.3])
        ranks = [facts.of(pattern).get("rank") for pattern in range(4)]
        assert ranks == [3, 1, None, 2]

    def test_numbers_that_do_not_fit_the_stack_are_refused_with_the_way_out(self):
        with pytest.raises(ParameterError, match=r"distance: found shape \(3,\).*full"):
            check_facts(4, distance=[1, 2, 3])


class TestDesk:
    def test_labels_are_stored_once_and_acknowledged(self, desk, store):
        (ack,) = desk.take("page", [label(1, 4), label(2, 5, "blank")])
        assert (ack["kind"], ack["last"]) == ("ack", 2)
        assert [change["pattern"] for change in ack["changes"]] == [4, 5]
        assert store.current_labels("anna")[[4, 5]].tolist() == ["single", "blank"]
        assert store.history()[0].session == "morning/page"

    def test_what_was_sent_twice_is_acknowledged_twice_and_stored_once(
        self, desk, store
    ):
        events = [label(1, 4), undo(2)]
        first, second = (list(desk.take("page", events)) for _ in range(2))
        assert first == second
        assert len(store.history()) == 2

    def test_a_gap_is_asked_for_and_nothing_after_it_stored(self, desk, store):
        list(desk.take("page", [label(1, 4)]))
        (answer,) = desk.take("page", [label(3, 6)])
        assert answer == {"kind": "resend", "session": "page", "last": 1}
        assert store.current_labels()[6] == ""

    def test_pages_count_for_themselves(self, desk, store):
        list(desk.take("one", [label(1, 4)]))
        (ack,) = desk.take("another", [label(1, 5)])
        assert ack["last"] == 1
        assert store.current_labels()[[4, 5]].tolist() == ["single"] * 2

    def test_after_a_failure_nothing_of_that_session_is_stored(
        self, desk, store, monkeypatch
    ):
        list(desk.take("page", [label(1, 4)]))
        with monkeypatch.context() as broken:
            broken.setattr(store, "record", _disk_is_full)
            ack, refused = desk.take("page", [label(2, 5)])
        assert ack["changes"] == []
        assert refused["kind"] == "refused"
        assert refused["last"] == 1
        assert refused["message"] == "the disk is full"
        # The same message once more, sent before the page heard, after there is room:
        *_, late = desk.take("page", [label(2, 5)])
        assert late["kind"] == "refused"
        assert store.current_labels()[5] == ""
        (ack,) = desk.take("a new session", [label(1, 5)])
        assert ack["kind"] == "ack"

    def test_a_long_batch_is_acknowledged_in_parts(self, desk):
        answers = list(desk.take("page", [label(i + 1, i) for i in range(N)]))
        assert [answer["last"] for answer in answers] == [8, N]

    def test_undo_takes_a_whole_batch_back(self, desk, store):
        list(desk.take("page", [label(1, 4), label(2, 5), label(3, 6)]))
        undos = [undo(4), undo(5, follows=6), undo(6, follows=5)]
        (ack,) = desk.take("page", undos)
        assert [change["pattern"] for change in ack["changes"]] == [6, 5, 4]
        assert not store.current_labels().any()

    def test_undo_of_a_batch_stops_at_what_was_labelled_elsewhere(self, desk, store):
        list(desk.take("gallery", [label(1, 4), label(2, 5)]))
        list(desk.take("labeller", [label(1, 9)]))
        (ack,) = desk.take("gallery", [undo(3), undo(4, follows=5)])
        assert [change["pattern"] for change in ack["changes"]] == [9, None]
        assert store.current_labels()[[4, 5]].tolist() == ["single"] * 2

    def test_undo_without_labels_says_that_there_are_none(self, desk):
        (ack,) = desk.take("page", [undo(1)])
        assert ack["changes"] == [{"kind": "undo", "pattern": None}]

    def test_an_undone_label_uncovers_what_others_say(self, desk, store):
        store.record(3, "multiple", labeller="bob", session="bob", seq=1)
        desk.look_again()
        list(desk.take("page", [label(1, 3)]))
        assert desk.labels_of(3)["label"] == "single"
        assert desk.labels_of(3)["by"] == {"anna": "single", "bob": "multiple"}
        assert desk.disagree().nonzero()[0].tolist() == [3]
        (ack,) = desk.take("page", [undo(2)])
        assert ack["changes"][0]["label"] == "multiple"

    def test_a_blind_labeller_sees_nothing_of_others(self, store):
        store.record(3, "multiple", labeller="bob", session="bob", seq=1)
        desk = LabelDesk(store, "anna", "morning", blind=True)
        assert desk.labels_of(3) == {"pattern": 3, "label": "", "by": {}}
        assert not desk.codes().any()

    def test_codes_follow_the_order_of_the_words(self, desk):
        list(desk.take("page", [label(k, k, word) for k, word in enumerate(LABELS, 1)]))
        assert desk.codes()[1:6].tolist() == [1, 2, 3, 4, 5]

    def test_a_labeller_without_a_name_is_refused(self, store):
        with pytest.raises(LabelsError, match="labeller: found an empty name"):
            LabelDesk(store, "  ")

    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.sampled_from(["ok", "lost", "twice", "late"]), max_size=30))
    def test_whatever_the_network_does_the_store_holds_what_was_acknowledged(
        self, tmp_path_factory, fates
    ):
        path = tmp_path_factory.mktemp("network") / "labels.sqlite"
        with open_label_store(path, "these patterns", N) as store:
            page = _Page(LabelDesk(store, "anna"))
            for i, fate in enumerate(fates):
                page.label(i % N, LABELS[i % 5], fate)
            page.deliver_all()
            stored = [(event.pattern, event.label) for event in store.history()]
        assert stored == page.labelled
        assert not page.unsaved


class _Page:
    """The page's side of the protocol, over a network that loses and repeats."""

    def __init__(self, desk):
        self.desk = desk
        self.labelled = []
        self.unsaved = []
        self.delayed = []

    def label(self, pattern, word, fate):
        self.labelled.append((pattern, word))
        event = label(len(self.labelled), pattern, word)
        self.unsaved.append(event)
        if fate == "late":
            self.delayed.append(event)
        elif fate != "lost":
            self.send([event])
        if fate == "twice":
            self.send([event])
            self.send([self.delayed.pop()] if self.delayed else [])

    def send(self, events):
        for answer in self.desk.take("page", events):
            if answer["kind"] == "ack":
                self.unsaved = [e for e in self.unsaved if e["seq"] > answer["last"]]
            else:
                self.deliver_all()

    def deliver_all(self):
        self.send(list(self.unsaved))


def _disk_is_full(*_, **__):
    msg = "the disk is full"
    raise LabelsError(msg)


class TestLabeller:
    def test_the_state_holds_order_and_labels(self, patterns, store):
        store.record(2, "blank", labeller="bob", session="bob", seq=1)
        widget = label_patterns(patterns, store, labeller="anna", order=[5, 2, 7])
        ((state, (order, codes)),) = say(widget, kind="hello", view="v")
        assert (state["view"], state["order"]) == ("v", "as given")
        assert np.frombuffer(order, np.int32).tolist() == [5, 2, 7]
        assert np.frombuffer(codes, np.uint8)[2] == 1 + LABELS.index("blank")

    def test_the_page_can_ask_for_another_order(self, patterns, store):
        widget = label_patterns(
            patterns, store, labeller="anna", hit_score=np.arange(N)
        )
        ((_, (order, _)),) = say(widget, kind="hello", view="v", order="hit score")
        assert np.frombuffer(order, np.int32)[:3].tolist() == [N - 1, N - 2, N - 3]

    def test_pixels_are_those_of_the_pattern(self, patterns, store):
        widget = label_patterns(patterns, store, labeller="anna", photons=np.arange(N))
        ((content, (codes,)),) = say(widget, kind="fetch", patterns=[3])
        codes = np.frombuffer(codes, np.uint8).reshape(patterns.shape[1:])
        expected = encode_pattern(patterns[3], patterns.bad_pixels, 1.0)
        assert np.array_equal(codes, expected.codes)
        assert (content["pattern"], content["facts"]) == (3, {"photons": 3.0})

    def test_labels_are_stored_from_any_thread(self, patterns, store):
        widget = label_patterns(patterns, store, labeller="anna")
        message = {"kind": "events", "session": "page", "events": [label(1, 4)]}
        thread = threading.Thread(target=say, args=(widget,), kwargs=message)
        thread.start()
        thread.join()
        assert store.current_labels("anna")[4] == "single"

    def test_trouble_is_told_to_the_page(self, patterns, store):
        widget = label_patterns(patterns, store, labeller="anna")
        sent = listen(widget)
        with pytest.raises(IndexError):
            widget._receive(widget, {"kind": "fetch", "patterns": [N]}, [])
        assert sent[-1][0]["kind"] == "trouble"

    @pytest.mark.parametrize("order", [[0, N], [1, 1], [0.5]])
    def test_impossible_orders_are_refused(self, patterns, store, order):
        with pytest.raises(ParameterError, match="order: "):
            label_patterns(patterns, store, labeller="anna", order=order)

    def test_an_empty_list_is_no_error(self, patterns, store):
        widget = label_patterns(patterns, store, labeller="anna", only="single")
        assert widget.index("as recorded", "single").size == 0


class TestGallery:
    def test_thumbnails_come_as_one_buffer(self, patterns):
        widget = show_gallery(patterns, [4, 1])
        ((content, (codes,)),) = say(widget, kind="thumbnails", patterns=[4, 1])
        size = content["rows"] * content["columns"]
        small, bad = shrink_pattern(patterns[1], patterns.bad_pixels, 96)
        assert codes[size:] == encode_pattern(small, bad, 1.0).codes.tobytes()

    def test_thumbnails_are_computed_once(self, patterns, monkeypatch):
        widget = show_gallery(patterns, [4, 1])
        first = say(widget, kind="thumbnails", patterns=[4, 1])
        monkeypatch.setattr(type(patterns), "__getitem__", _disk_is_full)
        assert say(widget, kind="thumbnails", patterns=[4, 1]) == first

    def test_scores_are_those_of_the_patterns_shown(self, patterns):
        widget = show_gallery(patterns, [4, 1], score=np.arange(N) / 10)
        ((_, buffers),) = say(widget, kind="hello", view="v")
        assert np.frombuffer(buffers[2], np.float32) == pytest.approx([0.4, 0.1])

    def test_without_a_store_nothing_is_labelled(self, patterns):
        widget = show_gallery(patterns, [4, 1])
        assert not widget.can_label
        assert say(widget, kind="events", session="page", events=[label(1, 4)]) == []

    def test_with_a_store_labels_reach_it(self, patterns, store):
        widget = show_gallery(patterns, [4, 1], store=store, labeller="anna")
        say(widget, kind="events", session="page", events=[label(1, 4)])
        assert store.current_labels("anna")[4] == "single"

    @pytest.mark.parametrize("per_page", [0, -5])
    def test_a_page_holds_something(self, patterns, per_page):
        with pytest.raises(ParameterError, match="per_page: found"):
            show_gallery(patterns, [1], per_page=per_page)


class TestPreview:
    @pytest.mark.parametrize("make", ["labeller", "gallery", "browser"])
    def test_a_picture_stands_beside_the_widget(self, patterns, store, make):
        widgets = {
            "labeller": lambda: label_patterns(patterns, store, labeller="anna"),
            "gallery": lambda: show_gallery(patterns, np.arange(N)),
            "browser": lambda: browse_patterns(patterns),
        }
        data, _ = widgets[make]()._repr_mimebundle_()
        assert "application/vnd.jupyter.widget-view+json" in data
        png = base64.b64decode(data["image/png"])
        assert len(png) < 100_000
        assert Image.open(io.BytesIO(png)).convert("L").getextrema()[1] > 100

    def test_a_first_pattern_that_is_not_there_is_refused(self, patterns):
        with pytest.raises(ParameterError, match=f"start: found pattern {N}"):
            browse_patterns(patterns, start=N)
