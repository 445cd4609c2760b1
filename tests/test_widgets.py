"""The kernel's side of the widgets; tests/browser drives the pages."""

import base64
import hashlib
import io
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from helpers.errors import LabelsError, ParameterError
from helpers.labels import LABELS, Queue, open_label_store
from helpers.patterns import open_patterns
from helpers.plots import find_crop
from helpers.ranking import Ranking, write_ranking
from helpers.simulate import write_simulated
from helpers.widgets import (
    browse_patterns,
    keys,
    label_patterns,
    label_service,
    make_thumbnails,
    read_results,
    save_keys,
    show_gallery,
)
from helpers.widgets.keys import (
    BROWSER_KEYS,
    GALLERY_KEYS,
    LABELLER_KEYS,
    TABLES,
    choose_keys,
)
from helpers.widgets.label_service import (
    APART,
    LabelService,
    choose_repeats,
    number_words,
    plan_repeats,
)
from helpers.widgets.pattern_table import (
    PatternOrder,
    keep_patterns,
    make_pattern_table,
)
from helpers.widgets.pattern_widget import STATIC, find_signal
from helpers.widgets.pixels import (
    BAD,
    COLOUR_MAPS,
    LEVELS,
    Thumbnails,
    colour_tables,
    encode_pattern,
    shrink_pattern,
)

N = 12
SOURCES = STATIC.parent / "js"
PIXELS = hnp.arrays(np.float32, (5, 4), elements=st.floats(-1e3, 1e6, width=32))


@pytest.fixture(autouse=True)
def _settings_of_nobody(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("settings") / "single-hits"
    monkeypatch.setattr(keys, "user_config_path", lambda *_, **__: folder)


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
def service(store):
    return LabelService(store, "anna", "morning")


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


def decode_pixels(pixels):
    """Turn codes back into values, as the page does, with NaN for what is left out."""
    fraction = pixels.codes / LEVELS
    values = pixels.knee * np.expm1(fraction * np.log1p(pixels.top / pixels.knee))
    return np.where(pixels.codes == BAD, np.nan, values)


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

    @given(PIXELS, hnp.arrays(bool, (5, 4)), st.integers(1, 6))
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


class TestPatternTable:
    def test_the_rank_counts_from_the_smallest_distance(self):
        table = make_pattern_table(4, distance=[0.5, 0.1, np.nan, 0.3])
        ranks = [table.row(pattern).get("rank") for pattern in range(4)]
        assert ranks == [3, 1, None, 2]

    def test_numbers_that_do_not_fit_the_stack_are_refused_with_the_way_out(self):
        with pytest.raises(ParameterError, match=r"distance: found shape \(3,\).*full"):
            make_pattern_table(4, distance=[1, 2, 3])


class TestPatternOrder:
    table = make_pattern_table(
        6,
        hit_score=[3, np.nan, 9, 1, 2, 0],
        distance=[0.5, 0.1, np.nan, 0.3, 0.2, 0.4],
        prediction=[0.9, 0.5, 0.1, np.nan, 0.4, 0.8],
        cluster=[0, 1, 0, -1, 0, 1],
    )
    queue = Queue(np.array([5, 2, 0]), np.array(["audit", "diverse", "uncertain"]))
    labels = np.array(["", "blank", "single", "", "", "single"])
    shuffled = np.array([2, 0, 3, 1, 5, 4])

    def make(self, **parts):
        return PatternOrder(self.table, self.shuffled, **parts)

    def test_orders_are_those_that_something_is_known_for(self):
        plain = PatternOrder(make_pattern_table(6), self.shuffled)
        assert plain.names == ("as recorded", "random", "label")
        numbers = ("hit score", "ranking", "uncertainty")
        queued = self.make(queue=self.queue).names
        first = ("as recorded", "random", "clusters")
        assert queued == (*first, *numbers, "queue", "label")
        scored = self.make(given=np.arange(6), score=np.arange(6.0))
        assert scored.names[:3] == ("as given", "highest first", "lowest first")
        assert "label" not in self.make(has_labels=False).names

    @pytest.mark.parametrize(
        ("order", "expected"),
        [
            ("as given", [4, 2, 0]),
            ("highest first", [3, 0, 1, 5, 4, 2]),
            ("lowest first", [4, 5, 1, 0, 3, 2]),
            ("as recorded", [0, 1, 2, 3, 4, 5]),
            ("random", [2, 0, 3, 1, 5, 4]),
            ("clusters", [3, 2, 1, 0, 5, 4]),  # in turn, each in random order
            ("hit score", [2, 0, 4, 3, 5, 1]),
            ("ranking", [1, 4, 3, 5, 0, 2]),
            ("uncertainty", [1, 4, 5, 0, 2, 3]),
            ("queue", [0]),  # the others have a label
            ("label", [2, 5, 1, 0, 3, 4]),
        ],
    )
    def test_each_order(self, order, expected):
        score = np.array([3, 2, np.nan, 7, -1, 1.5])
        orders = self.make(given=np.array([4, 2, 0]), queue=self.queue, score=score)
        assert orders.index(order, "all", self.labels).tolist() == expected

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

    def test_a_limited_list_shows_the_given_patterns_alone(self):
        orders = self.make(given=np.array([4, 2, 0]), is_limited=True)
        assert orders.index("uncertainty", "all", self.labels).tolist() == [4, 0, 2]
        assert orders.index("as recorded", "single", self.labels).tolist() == [2]

    def test_an_unknown_order_is_refused_with_those_there_are(self):
        with pytest.raises(ParameterError, match=r"'queue'.*one of 'as recorded', 'ra"):
            self.make().index("queue", "all", self.labels)

    def test_an_empty_queue_says_who_fills_it(self):
        empty = Queue(np.array([], dtype=np.int64), np.array([], dtype=np.str_))
        orders = self.make(queue=empty)
        assert orders.index("queue", "all", self.labels).size == 0
        assert "Later notebooks" in orders.why_empty("queue")
        assert "notebooks" not in orders.why_empty("random")


class TestRepeats:
    n = 400
    share = 0.1

    def plan(self, n_labelled):
        index = np.arange(self.n)
        labelled = index < n_labelled
        chosen = choose_repeats(self.n, self.share, "abc", "anna")
        return plan_repeats(index, labelled, labelled, chosen, self.share), chosen

    def test_the_choice_is_random_but_stays_the_same(self):
        first, again, other = (
            choose_repeats(10_000, 0.05, "abc", who) for who in ("anna", "anna", "bob")
        )
        assert np.array_equal(first, again)
        assert 0.04 < first.mean() < 0.06
        assert (first & other).mean() < 0.01

    @given(st.integers(0, n))
    def test_the_list_itself_stays_as_it_was(self, n_labelled):
        plan, chosen = self.plan(n_labelled)
        assert plan.index[~plan.is_repeat].tolist() == list(range(self.n))
        repeats = plan.index[plan.is_repeat]
        assert np.unique(repeats).size == repeats.size
        assert chosen[repeats].all()
        due = np.flatnonzero(chosen[:n_labelled])
        n_due = np.isin(repeats, due).sum()
        n_unlabelled = self.n - n_labelled
        room = n_unlabelled * self.share if n_unlabelled else due.size
        assert n_due >= min(due.size, np.floor(room))

    @given(st.integers(0, n))
    def test_between_first_and_second_time_lie_others(self, n_labelled):
        plan, _ = self.plan(n_labelled)
        for position in np.flatnonzero(plan.is_repeat):
            before = plan.index[:position]
            unlabelled = np.flatnonzero(before >= n_labelled)
            if plan.index[position] >= n_labelled:
                (first,) = np.flatnonzero(before == plan.index[position])
                assert np.count_nonzero(unlabelled > first) >= APART - 1

    def test_what_was_labelled_earlier_comes_back_little_by_little(self):
        plan, chosen = self.plan(200)
        unlabelled = ~plan.is_repeat & (plan.index >= 200)
        done = np.cumsum(unlabelled)
        is_old = plan.is_repeat & (plan.index < 200)
        places = done[is_old]
        n_stretches = round(200 * self.share)
        assert places.size == min(n_stretches, np.count_nonzero(chosen[:200]))
        stretches = ((places - 1) * self.share).astype(int)
        assert stretches.tolist() == list(range(n_stretches))

    def test_when_all_is_labelled_they_come_at_the_end(self):
        plan, chosen = self.plan(self.n)
        assert not plan.is_repeat[: self.n].any()
        assert plan.is_repeat[self.n :].sum() == chosen.sum()

    def repeats(self, service):
        plan = service.plan_repeats(np.arange(N), 1.0)
        return set(plan.index[plan.is_repeat].tolist())

    def test_only_own_labels_come_back_and_only_once_unless_undone(self, store):
        store.record(3, "multiple", labeller="bob", session="bob", seq=1)
        store.record(5, "single", labeller="anna", session="before", seq=1)
        service = LabelService(store, "anna", "morning")
        assert 5 in self.repeats(service)
        assert 3 not in self.repeats(service)
        list(service.take("page", [label(1, 5, "blank") | {"repeat": True}]))
        assert store.history(5)[-1].shown.startswith("blind repeat")
        assert service.labels_of(5)["repeated"]
        assert 5 not in self.repeats(service)
        (ack,) = service.take("page", [undo(2)])
        (change,) = ack["changes"]
        assert (change["label"], change["repeated"]) == ("single", False)
        assert 5 in self.repeats(LabelService(store, "anna", "evening"))

    @pytest.mark.parametrize("share", [0.0, 1.0])
    def test_what_was_labelled_just_now_does_not_come_back_at_once(
        self, service, share
    ):
        list(service.take("page", [label(1, 4)]))
        plan = service.plan_repeats(np.arange(N), share)
        assert plan.index[~plan.is_repeat].tolist() == list(range(N))
        assert 4 not in plan.index[plan.is_repeat]
        assert share or not plan.is_repeat.any()

    @pytest.mark.parametrize("share", [-0.1, float("nan")])
    def test_impossible_shares_are_refused(self, patterns, store, share):
        with pytest.raises(ParameterError, match="relabel_share: found"):
            label_patterns(patterns, store, labeller="anna", relabel_share=share)

    def test_a_list_of_one_class_is_not_blind(self, patterns, store):
        for pattern in range(N):
            where = {"session": "before", "seq": pattern + 1}
            store.record(pattern, "single", labeller="anna", **where)
        widget = label_patterns(patterns, store, labeller="anna", relabel_share=1.0)
        assert widget.plan("as recorded", "all").is_repeat.sum() == N
        assert widget.plan("as recorded", "unlabelled").index.size == 0
        assert not widget.plan("as recorded", "single").is_repeat.any()


class TestKeys:
    def test_preferred_keys_replace_the_usual_ones(self):
        chosen = choose_keys(GALLERY_KEYS, {"single": "j", "undo": ["v", "9"]})
        assert chosen["single"].keys == ["j"]
        assert chosen["all single"].keys == ["J"]
        assert chosen["undo"].keys == ["v", "9"]
        assert chosen["multiple"].keys == ["2", "m"]

    @pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
    def test_the_usual_keys_do_not_conflict(self, table):
        assert choose_keys(table) == table

    @pytest.mark.parametrize(
        ("preferred", "message"),
        [
            ({"single": "z"}, "found 'z' for both 'single' and 'undo'"),
            ({"single": "j", "blank": "j"}, "found 'j' for both 'single' and 'blank'"),
            ({"single": "Escape"}, "found 'Escape' for 'single'; expected one char"),
            ({"single": "S"}, "found 'S' for 'single'; .* for whole pages"),
            ({"single": ""}, "found '' for 'single'"),
            ({"single": []}, "found no key for 'single'"),
            ({"sigle": "j"}, "found sigle; expected some of .*single"),
        ],
    )
    def test_impossible_keys_are_refused(self, preferred, message):
        with pytest.raises(ParameterError, match=f"keys: {message}"):
            choose_keys(LABELLER_KEYS, preferred)
        with pytest.raises(ParameterError, match=f"keys: {message}"):
            save_keys(preferred)
        assert not keys.keys_file().exists()

    def test_what_is_saved_holds_in_every_widget(self, patterns, store):
        path = save_keys({"single": "j"})
        assert json.loads(path.read_text()) == {"single": ["j"]}
        for widget in (
            label_patterns(patterns, store, labeller="anna"),
            show_gallery(patterns, [1], store=store, labeller="anna"),
        ):
            assert widget.key_table["single"]["keys"] == ["j"]
        own = label_patterns(patterns, store, labeller="anna", keys={"single": "7"})
        assert own.key_table["single"]["keys"] == ["7"]
        save_keys({})
        assert choose_keys(LABELLER_KEYS)["single"].keys == ["1", "s"]

    @pytest.mark.parametrize("text", ['{"single": ', "[1, 2]", '{"single": 3}', "\xff"])
    def test_a_broken_settings_file_is_reported_and_not_followed(self, text):
        keys.keys_file().parent.mkdir()
        keys.keys_file().write_bytes(text.encode("latin-1"))
        with pytest.warns(UserWarning, match=r"keys\.json is not followed"):
            assert choose_keys(LABELLER_KEYS)["single"].keys == ["1", "s"]


def shrink_signal(patterns, pattern):
    """Return a thumbnail, made step by step."""
    crop = find_crop(patterns)
    small, bad = shrink_pattern(patterns[pattern][crop], patterns.bad_pixels[crop], 96)
    return encode_pattern(small, bad, 1.0)


class TestThumbnails:
    def test_they_are_the_patterns_shrunk(self, patterns, tmp_path):
        for thumbnails in (Thumbnails(patterns), Thumbnails(patterns, tmp_path)):
            first, second = thumbnails.of([4, 1])
            expected = shrink_signal(patterns, 1)
            assert np.array_equal(second.codes, expected.codes)
            assert (second.knee, second.top) == (expected.knee, expected.top)
            assert not np.array_equal(first.codes, second.codes)

    def test_what_is_kept_is_not_made_again(self, patterns, tmp_path, monkeypatch):
        path = make_thumbnails(patterns, tmp_path)
        expected = Thumbnails(patterns).of(range(N))
        monkeypatch.setattr(type(patterns), "__getitem__", _disk_is_full)
        kept = Thumbnails(patterns, tmp_path).of(range(N))
        assert all(
            np.array_equal(one.codes, other.codes) and one.top == other.top
            for one, other in zip(kept, expected, strict=True)
        )
        make_thumbnails(patterns, tmp_path)
        assert [each.name for each in tmp_path.iterdir()] == [path.name]

    def test_pages_are_kept_as_they_are_looked_at(self, patterns, tmp_path):
        thumbnails = Thumbnails(patterns, tmp_path)
        assert not thumbnails.path.exists()  # nothing is written before it is needed
        thumbnails.of([4, 1])
        with sqlite3.connect(thumbnails.path) as database:
            kept = database.execute("SELECT pattern FROM thumbnails").fetchall()
        assert kept == [(1,), (4,)]

    def test_other_bad_pixels_have_thumbnails_of_their_own(self, patterns, tmp_path):
        before = make_thumbnails(patterns, tmp_path)
        more = patterns.bad_pixels.copy()
        more[120:140] = True
        other = patterns.with_bad_pixels(more)
        (pixels,) = Thumbnails(other, tmp_path).of([1])
        assert (pixels.codes == BAD).all(axis=1).any()
        assert not before.exists()  # nobody asks for them any more

    def test_a_file_that_cannot_be_used_only_costs_time(self, patterns, tmp_path):
        thumbnails = Thumbnails(patterns, tmp_path)
        thumbnails.path.write_bytes(b"no database at all, but long enough" * 100)
        with pytest.warns(UserWarning, match="thumbnails cannot be kept there"):
            first = thumbnails.of([1])
        assert np.array_equal(first[0].codes, Thumbnails(patterns).of([1])[0].codes)

    def test_a_damaged_thumbnail_is_made_again(self, patterns, tmp_path):
        path = make_thumbnails(patterns, tmp_path)
        with sqlite3.connect(path) as database:
            database.execute("UPDATE thumbnails SET codes = x'00' WHERE pattern = 1")
        with pytest.warns(UserWarning, match="Delete the file if it is damaged"):
            (pixels,) = Thumbnails(patterns, tmp_path).of([1])
        assert np.array_equal(pixels.codes, Thumbnails(patterns).of([1])[0].codes)

    def test_a_kill_leaves_whole_thumbnails_alone(self, patterns, tmp_path):
        script = KILLED.format(file=str(patterns.files[0]), folder=str(tmp_path))
        killed = subprocess.run([sys.executable, "-c", script], check=False)
        assert killed.returncode == -signal.SIGKILL
        path = Thumbnails(patterns, tmp_path).path
        with sqlite3.connect(path) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            query = "SELECT pattern FROM thumbnails"
            kept = [row[0] for row in database.execute(query)]
        assert kept == [0, 1, 2]
        make_thumbnails(patterns, tmp_path)
        expected = Thumbnails(patterns).of(range(N))
        kept = Thumbnails(patterns, tmp_path).of(range(N))
        for one, other in zip(kept, expected, strict=True):
            assert np.array_equal(one.codes, other.codes)


# Killed in the middle of a transaction, after one that ended.
KILLED = """
import os, signal
from helpers.patterns import open_patterns
from helpers.widgets.pixels import Thumbnails
thumbnails = Thumbnails(open_patterns({file!r}), {folder!r})
thumbnails.of([0, 1, 2])
database = thumbnails._database
database.execute("PRAGMA cache_spill = 1")
database.execute("INSERT INTO thumbnails SELECT pattern + 3, n_rows, n_columns, "
    "knee, top, zeroblob(5000000) FROM thumbnails")
os.kill(os.getpid(), signal.SIGKILL)
"""


class TestResults:
    def test_ranking_and_predictions_are_put_in_stack_order(self, patterns, tmp_path):
        assert read_results(tmp_path, patterns) == {}
        _write_results(tmp_path, patterns.fingerprint)
        results = read_results(tmp_path, patterns)
        assert results["distance"][[7, 2]] == pytest.approx([0.25, 0.5])
        assert np.isnan(results["distance"][0])
        assert results["prediction"] == pytest.approx(np.linspace(0, 1, N))

    def test_those_of_other_patterns_are_left_out_with_a_warning(
        self, patterns, tmp_path
    ):
        _write_results(tmp_path, "other patterns")
        with pytest.warns(UserWarning, match="Not shown beside the patterns") as told:
            assert read_results(tmp_path, patterns) == {}
        assert len(told) == 2

    @pytest.mark.parametrize("blind", [True, False])
    def test_whoever_labels_blind_sees_no_opinion(self, patterns, store, blind):
        metadata = {"prediction": np.full(N, 0.5), "distance": np.arange(N)}
        metadata |= {
            "photons": np.arange(N),
            "queue": Queue(np.array([3]), np.array([""])),
        }
        common = {"store": store, "labeller": "anna", "blind": blind, **metadata}
        for widget in (
            label_patterns(patterns, order="uncertainty", **common),
            show_gallery(patterns, [3], **common),
        ):
            ((content, _),) = say(widget, kind="fetch", patterns=[3])
            of_model = {"prediction", "distance", "rank", "why"}
            assert set(content["values"]) == {"photons"} | (
                set() if blind else of_model
            )

    def test_the_reason_is_shown_beside_a_queued_pattern(self, patterns, store):
        queue = Queue(np.array([3]), np.array(["uncertain"]))
        widget = label_patterns(
            patterns, store, labeller="anna", order="queue", queue=queue
        )
        assert widget.index("queue").tolist() == [3]
        ((content, _),) = say(widget, kind="fetch", patterns=[3])
        assert content["values"] == {"why": "uncertain"}
        gallery = show_gallery(patterns, [1, 3], queue=queue)
        assert gallery.index("queue").tolist() == [3]


def _write_results(folder, fingerprint):
    ranking = Ranking(
        index=np.array([7, 2]),
        distance=np.array([0.25, 0.5]),
        template=np.array([1, 1]),
        angle_deg=np.zeros(2),
        metric="article",
        n_rotations=1,
        n_templates=1,
        fingerprint=fingerprint,
    )
    write_ranking(folder / "ranking.h5", ranking)
    with h5py.File(folder / "predictions.h5", "w") as file:
        file["predictions"] = file["raw"] = np.linspace(0, 1, N, dtype=np.float32)
        metadata = {"threshold": 0.5, "patterns_files": "x", "fingerprint": fingerprint}
        file.attrs.update(metadata)


class TestLabelService:
    def test_labels_are_stored_once_and_acknowledged(self, service, store):
        (ack,) = service.take("page", [label(1, 4), label(2, 5, "blank")])
        assert (ack["kind"], ack["last"]) == ("ack", 2)
        assert [change["pattern"] for change in ack["changes"]] == [4, 5]
        assert store.current_labels("anna")[[4, 5]].tolist() == ["single", "blank"]
        assert store.history()[0].session == "morning/page"

    def test_what_was_sent_twice_is_acknowledged_twice_and_stored_once(
        self, service, store
    ):
        events = [label(1, 4), undo(2)]
        first, second = (list(service.take("page", events)) for _ in range(2))
        assert first == second
        assert len(store.history()) == 2

    def test_a_gap_is_asked_for_and_nothing_after_it_stored(self, service, store):
        list(service.take("page", [label(1, 4)]))
        (answer,) = service.take("page", [label(3, 6)])
        assert answer == {"kind": "resend", "session": "page", "last": 1}
        assert store.current_labels()[6] == ""

    def test_pages_count_for_themselves(self, service, store):
        list(service.take("one", [label(1, 4)]))
        (ack,) = service.take("another", [label(1, 5)])
        assert ack["last"] == 1
        assert store.current_labels()[[4, 5]].tolist() == ["single"] * 2

    def test_after_a_failure_nothing_of_that_session_is_stored(
        self, service, store, monkeypatch
    ):
        list(service.take("page", [label(1, 4)]))
        with monkeypatch.context() as broken:
            broken.setattr(store, "record_all", _disk_is_full)
            ack, refused = service.take("page", [label(2, 5)])
        assert ack["changes"] == []
        assert refused["kind"] == "refused"
        assert refused["last"] == 1
        assert refused["message"] == "the disk is full"
        # The same message once more, sent before the page heard, after there is room:
        *_, late = service.take("page", [label(2, 5)])
        assert late["kind"] == "refused"
        assert store.current_labels()[5] == ""
        (ack,) = service.take("a new session", [label(1, 5)])
        assert ack["kind"] == "ack"

    def test_a_store_that_is_gone_is_reported_and_what_was_given_can_be_rescued(
        self, service, store
    ):
        list(service.take("page", [label(1, 4)]))
        file = Path(store.name)
        file.unlink()
        _, refused = service.take("page", [label(2, 5)])
        assert (refused["kind"], refused["last"]) == ("refused", 1)
        assert "gone from its place" in refused["lost"]
        service.look_again()
        assert service.lost == refused["lost"]
        assert service.labels_of(4)["label"] == "single"
        assert f"Written: {file.parent}/labels-rescued-" in service.rescue()
        assert not file.exists()

    def test_nothing_to_rescue_is_said(self, service):
        assert "nothing was given in this session" in service.rescue()

    def test_a_long_batch_is_stored_and_acknowledged_in_parts(
        self, service, store, monkeypatch
    ):
        monkeypatch.setattr(label_service, "MOST_AT_ONCE", 8)
        answers = list(service.take("page", [label(i + 1, i) for i in range(N)]))
        assert [answer["last"] for answer in answers] == [8, N]
        undone = [
            undo(N + 1),
            *(undo(2 * N + 1 - i, follows=i) for i in range(N - 1, 0, -1)),
        ]
        answers = list(service.take("page", undone))
        patterns = [each["pattern"] for ack in answers for each in ack["changes"]]
        assert patterns == [*range(N)][::-1]
        assert not store.current_labels().any()

    @pytest.mark.parametrize("wrong", [label(3, N), label(3, 5, "nothing")])
    def test_labels_given_at_once_are_stored_all_or_none(self, service, store, wrong):
        ack, refused = service.take("page", [label(1, 4), label(2, 5), wrong])
        assert (ack["changes"], refused["last"]) == ([], 0)
        assert store.history() == []

    def test_many_labels_are_events_of_one_transaction(self, store, monkeypatch):
        opened = []
        writing = store._database.writing

        def count():
            opened.append(1)
            return writing()

        monkeypatch.setattr(store._database, "writing", count)
        service = LabelService(store, "anna", "morning")
        list(service.take("page", [label(i + 1, i) for i in range(N)]))
        list(service.take("page", [undo(N + 1), undo(N + 2, follows=N - 1)]))
        assert len(opened) == 2
        assert len(store.history()) == N + 2
        assert store.current_labels("anna")[-3:].tolist() == ["single", "", ""]

    def test_undo_takes_a_whole_batch_back(self, service, store):
        list(service.take("page", [label(1, 4), label(2, 5), label(3, 6)]))
        undos = [undo(4), undo(5, follows=6), undo(6, follows=5)]
        (ack,) = service.take("page", undos)
        assert [change["pattern"] for change in ack["changes"]] == [6, 5, 4]
        assert not store.current_labels().any()

    def test_undo_of_a_batch_stops_at_what_was_labelled_elsewhere(self, service, store):
        list(service.take("gallery", [label(1, 4), label(2, 5)]))
        list(service.take("labeller", [label(1, 9)]))
        (ack,) = service.take("gallery", [undo(3), undo(4, follows=5)])
        assert [change["pattern"] for change in ack["changes"]] == [9, None]
        assert store.current_labels()[[4, 5]].tolist() == ["single"] * 2

    def test_undo_without_labels_says_that_there_are_none(self, service):
        (ack,) = service.take("page", [undo(1)])
        assert ack["changes"] == [{"kind": "undo", "pattern": None}]

    def test_an_undone_label_uncovers_what_others_say(self, service, store):
        store.record(3, "multiple", labeller="bob", session="bob", seq=1)
        service.look_again()
        list(service.take("page", [label(1, 3)]))
        assert service.labels_of(3)["label"] == "single"
        assert service.labels_of(3)["by"] == {"anna": "single", "bob": "multiple"}
        assert service.disagree().nonzero()[0].tolist() == [3]
        (ack,) = service.take("page", [undo(2)])
        assert ack["changes"][0]["label"] == "multiple"

    def test_a_blind_labeller_sees_nothing_of_others(self, store):
        store.record(3, "multiple", labeller="bob", session="bob", seq=1)
        service = LabelService(store, "anna", "morning", blind=True)
        shown = service.labels_of(3)
        assert (shown["label"], shown["by"]) == ("", {})
        assert not number_words(service.labels()).any()

    def test_codes_follow_the_order_of_the_words(self, service):
        list(
            service.take(
                "page", [label(k, k, word) for k, word in enumerate(LABELS, 1)]
            )
        )
        assert number_words(service.labels())[1:6].tolist() == [1, 2, 3, 4, 5]

    def test_a_labeller_without_a_name_is_refused(self, store):
        with pytest.raises(LabelsError, match="labeller: found an empty name"):
            LabelService(store, "  ")

    @settings(max_examples=40)
    @given(st.lists(st.sampled_from(["ok", "lost", "twice", "late"]), max_size=30))
    def test_whatever_the_network_does_the_store_holds_what_was_acknowledged(
        self, tmp_path_factory, fates
    ):
        path = tmp_path_factory.mktemp("network") / "labels.sqlite"
        with open_label_store(path, "these patterns", N) as store:
            page = _Page(LabelService(store, "anna"))
            for i, fate in enumerate(fates):
                page.label(i % N, LABELS[i % 5], fate)
            page.deliver_all()
            stored = [(event.pattern, event.label) for event in store.history()]
        assert stored == page.labelled
        assert not page.unsaved


class _Page:
    """The page's side of the protocol, over a network that loses and repeats."""

    def __init__(self, service):
        self.service = service
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
        for answer in self.service.take("page", events):
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
        ((state, (order, codes, repeats)),) = say(widget, kind="hello", view="v")
        assert (state["view"], state["order"]) == ("v", "as given")
        assert np.frombuffer(order, np.int32).tolist() == [5, 2, 7]
        assert np.frombuffer(codes, np.uint8)[2] == 1 + LABELS.index("blank")
        assert np.frombuffer(repeats, np.uint8).tolist() == [0, 0, 0]

    def test_the_page_can_ask_for_another_order(self, patterns, store):
        widget = label_patterns(
            patterns, store, labeller="anna", hit_score=np.arange(N)
        )
        ((_, (order, *_)),) = say(widget, kind="hello", view="v", order="hit score")
        assert np.frombuffer(order, np.int32)[:3].tolist() == [N - 1, N - 2, N - 3]

    def test_pixels_are_those_of_the_pattern(self, patterns, store):
        widget = label_patterns(patterns, store, labeller="anna", photons=np.arange(N))
        ((content, (codes,)),) = say(widget, kind="fetch", patterns=[3])
        codes = np.frombuffer(codes, np.uint8).reshape(patterns.shape[1:])
        expected = encode_pattern(patterns[3], patterns.bad_pixels, 1.0)
        assert np.array_equal(codes, expected.codes)
        assert (content["pattern"], content["values"]) == (3, {"photons": 3.0})

    def test_labels_are_stored_from_any_thread(self, patterns, store):
        widget = label_patterns(patterns, store, labeller="anna")
        message = {"kind": "events", "session": "page", "events": [label(1, 4)]}
        thread = threading.Thread(target=say, args=(widget,), kwargs=message)
        thread.start()
        thread.join()
        assert store.current_labels("anna")[4] == "single"

    def test_trouble_is_reported_to_the_page(self, patterns, store):
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
        assert codes[size:] == shrink_signal(patterns, 1).codes.tobytes()
        assert "where the signal is" in widget.crop_note

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

    def test_a_page_holds_something(self, patterns):
        with pytest.raises(ParameterError, match="per_page: found 0"):
            show_gallery(patterns, [1], per_page=0)


class TestBundles:
    def test_they_are_made_of_the_sources_as_they_are(self):
        names = [name for name in SOURCES.iterdir() if name.suffix in (".js", ".css")]
        digest = hashlib.sha256()
        for path in sorted([*names, SOURCES / "package-lock.json"]):
            digest.update(f"{path.name}\n".encode() + path.read_bytes())
        bundles = sorted(STATIC.iterdir())
        assert {path.stem for path in bundles} == {
            *("labeller", "gallery", "browser", "map_page")
        }
        for path in bundles:
            first_line = path.read_text("utf-8").splitlines()[0]
            assert digest.hexdigest() in first_line, "run `make bundle`"


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


def test_page_is_told_where_the_signal_is(patterns):
    found = find_signal(patterns, (3, 4))
    rows, columns = patterns.shape[1:]
    assert found["middle"] == [4.5 / columns, 3.5 / rows]
    left, top, right, bottom = found["crop"]
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1
    middle = find_signal(patterns)["middle"]
    assert middle == pytest.approx([(left + right) / 2, (top + bottom) / 2])
    assert {"crop", "flatten"} <= LABELLER_KEYS.keys() & BROWSER_KEYS.keys()
