"""Blind repeats, and what is said of the reliability of labels."""

import itertools
import sqlite3

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from helpers.errors import OtherPatternsError
from helpers.labels import (
    describe_agreement,
    describe_repeats,
    open_label_store,
    self_consistency,
)
from helpers.labels.reader import mark_repeat

N = 40


@pytest.fixture
def store(tmp_path):
    with open_label_store(tmp_path / "labels.sqlite", "abc", N) as store:
        yield store


@pytest.fixture
def say(store):
    """Give a function that stores a label, blind or not."""
    seq = itertools.count(1)

    def say(pattern, label, blind=False, labeller="anna"):
        shown = mark_repeat("log") if blind else "log"
        session = f"by {labeller}"
        where = {"session": session, "seq": next(seq), "shown": shown}
        store.record(pattern, label, labeller=labeller, **where)

    return say


def undo(store, seq, labeller="anna"):
    return store.undo(labeller=labeller, session="undone", seq=seq)


class TestAgreementWithOneself:
    def test_a_blind_label_is_compared_with_the_one_before(self, store, say):
        for pattern, label in [(3, "single"), (4, "blank"), (5, "single")]:
            say(pattern, label)
        say(3, "single", blind=True)
        say(4, "other", blind=True)
        said = self_consistency(store, "anna")
        assert said.pattern.tolist() == [3, 4]
        assert said.first.tolist() == ["single", "blank"]
        assert said.second.tolist() == ["single", "other"]
        assert said.changed.tolist() == [4]
        assert said.same.value == 0.5
        assert store.repeated("anna").tolist() == [3, 4]

    def test_the_blind_label_is_the_newest_and_counts(self, store, say):
        say(4, "blank")
        say(4, "other", blind=True)
        assert store.current_labels()[4] == "other"
        assert [event.label for event in store.history(4)] == ["blank", "other"]

    def test_a_correction_is_no_repeat(self, store, say):
        say(4, "blank")
        say(4, "other")
        assert self_consistency(store, "anna").pattern.size == 0
        assert store.repeated("anna").size == 0

    def test_a_correction_after_the_repeat_changes_nothing_of_it(self, store, say):
        say(4, "blank")
        say(4, "other", blind=True)
        say(4, "blank")
        assert self_consistency(store, "anna").second.tolist() == ["other"]
        assert store.current_labels()[4] == "blank"

    def test_an_undone_repeat_does_not_count(self, store, say):
        say(4, "blank")
        say(4, "other", blind=True)
        assert undo(store, 1) == 4
        assert store.current_labels()[4] == "blank"
        assert self_consistency(store, "anna").pattern.size == 0
        assert store.repeated("anna").size == 0

    def test_an_undone_first_label_is_not_compared_with(self, store, say):
        say(4, "blank")
        undo(store, 1)
        say(4, "other")
        say(4, "single", blind=True)
        assert self_consistency(store, "anna").first.tolist() == ["other"]

    def test_others_do_not_count(self, store, say):
        say(4, "blank", labeller="bob")
        say(4, "other", blind=True)  # nothing of her own stood before
        assert self_consistency(store, "anna").pattern.size == 0
        assert self_consistency(store, "bob").pattern.size == 0

    def test_kappa_and_its_interval(self, store, say):
        words = ["single", "blank"] * 10
        again = [
            "single" if pattern == 1 else word for pattern, word in enumerate(words)
        ]
        for blind, said in [(False, words), (True, again)]:
            for pattern, word in enumerate(said):
                say(pattern, word, blind)
        said = self_consistency(store, "anna")
        assert said.kappa == pytest.approx(cohen_kappa_score(words, again))
        assert (said.same.n_counted, said.same.n_sample) == (19, 20)
        low, high = said.kappa_interval
        assert low == pytest.approx((said.same.low - 0.5) / 0.5)
        assert low < said.kappa < high <= 1

    def test_a_few_repeats_that_all_agree_prove_little(self, store, say):
        for blind in (False, True):
            for pattern in range(4):
                say(pattern, "single" if pattern % 2 else "blank", blind)
        said = self_consistency(store, "anna")
        assert said.kappa == 1
        assert said.kappa_interval[0] < 0.2

    def test_without_repeats_nothing_is_claimed(self, store):
        said = self_consistency(store, "anna")
        numbers = [said.same.value, said.kappa, *said.kappa_interval]
        assert np.isnan(numbers).all()


class TestDescriptions:
    def test_repeats_in_words(self, store, say):
        assert "nothing yet" in describe_repeats(store, "anna")
        for pattern, label in [(3, "single"), (4, "blank")]:
            say(pattern, label)
            say(pattern, "single", blind=True)
        text = describe_repeats(store, "anna")
        assert "1 of 2 blind repeats got the same word, 50%" in text
        assert "Another word the second time: patterns 4." in text

    def test_agreement_in_words(self, store, say):
        assert "labels of nobody" in describe_agreement(store)
        say(1, "single")
        assert "labels of one labeller" in describe_agreement(store)
        say(2, "blank", labeller="bob")
        assert "anna and bob: no pattern in common." in describe_agreement(store)
        say(2, "blank")
        say(1, "other", labeller="bob")
        text = describe_agreement(store)
        assert "anna and bob: 1 of 2 patterns alike, Cohen's kappa 0.33." in text
        assert "Different words: patterns 1." in text
        assert "Fleiss" not in text
        say(1, "single", labeller="carol")
        assert "All 3: Fleiss' kappa" in describe_agreement(store)

    def test_a_long_list_of_patterns_is_cut(self, store, say):
        for pattern in range(30):
            say(pattern, "single")
            say(pattern, "other", labeller="bob")
        assert "19 and 10 more." in describe_agreement(store)


class TestSameRun:
    def test_the_refusal_names_the_way(self, tmp_path, store):
        with pytest.raises(OtherPatternsError, match="same_run=True"):
            open_label_store(tmp_path / "labels.sqlite", "recompressed", N)

    def test_the_first_identity_stays_and_the_new_one_is_recorded(
        self, tmp_path, store
    ):
        path = tmp_path / "labels.sqlite"
        open_label_store(path, "longer", N + 5, same_run=True).close()
        with sqlite3.connect(path) as database:
            first = database.execute("SELECT fingerprint FROM labelled_patterns")
            assert first.fetchall() == [("abc",)]
            further = database.execute("SELECT fingerprint, n_patterns FROM same_runs")
            assert further.fetchall() == [("longer", N + 5)]

    def test_fewer_patterns_are_never_the_same_run(self, tmp_path, store):
        with pytest.raises(OtherPatternsError, match="because they are fewer"):
            open_label_store(tmp_path / "labels.sqlite", "cut", N - 1, same_run=True)

    def test_labels_beyond_a_shorter_stack_are_left_alone(self, tmp_path, store, say):
        path = tmp_path / "labels.sqlite"
        say(3, "single")
        with open_label_store(path, "longer", N + 5, same_run=True) as longer:
            longer.record(N + 2, "blank", labeller="anna", session="later", seq=1)
            assert longer.current_labels()[N + 2] == "blank"
            assert store.counts()["blank"] == 0
            assert store.votes().shape == (N, 1)
            assert undo(store, 1) == 3
            assert undo(store, 2) is None
            assert longer.current_labels()[N + 2] == "blank"

    def test_a_new_store_is_simply_made(self, tmp_path):
        with open_label_store(tmp_path / "new.sqlite", "abc", N, same_run=True) as new:
            assert new.labellers() == ()
