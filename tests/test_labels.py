"""The label store on SQLite and on PostgreSQL: every test here runs on both."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count

import numpy as np
import pytest
import reference
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.errors import LabelsError, OtherPatternsError
from helpers.labels import LABELS, LabelStore, disagreements, open_label_store
from helpers.labels.reader import mark_repeat

N_PATTERNS = 6
NUMBER = count()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_address(request, tmp_path):
    """Give a function that gives the address of a database that is not yet used."""
    if request.param == "sqlite":
        return lambda: str(tmp_path / f"labels{next(NUMBER)}.sqlite")
    server = request.getfixturevalue("postgresql")

    def new_schema() -> str:
        name = f"labels{next(NUMBER)}"
        with server.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {name}")
        url = server.url.set(drivername="postgresql")
        url = url.update_query_dict({"options": f"-csearch_path={name}"})
        return url.render_as_string(hide_password=False)

    return new_schema


@pytest.fixture
def address(new_address):
    return new_address()


@pytest.fixture
def store(address) -> Iterator[LabelStore]:
    with open_store(address) as store:
        yield store


def open_store(address):
    return open_label_store(address, "abc", N_PATTERNS)


def plain_engine(address):
    """Open the database as any other program would."""
    if "://" not in address:
        return sa.create_engine(f"sqlite:///{address}")
    return sa.create_engine(sa.make_url(address).set(drivername="postgresql+psycopg"))


def press(store, pattern, word, labeller="anna", session=None):
    store.record(
        pattern, word, labeller=labeller, session=session or f"s{next(NUMBER)}", seq=1
    )


def undo(store, labeller="anna"):
    return store.undo(labeller=labeller, session=f"s{next(NUMBER)}", seq=1)


def words_of(store, labeller=None):
    return store.current_labels(labeller).tolist()


def test_new_store_has_no_labels(store):
    assert words_of(store) == [""] * N_PATTERNS
    assert store.current_labels().dtype == np.dtype("<U8")
    assert store.counts() == dict.fromkeys(LABELS, 0)
    assert store.labellers() == ()
    assert store.votes().shape == (N_PATTERNS, 0)
    assert store.history() == []
    assert undo(store) is None


def test_newest_label_of_a_pattern_counts(store):
    press(store, 2, "single")
    press(store, 4, "blank")
    press(store, 2, "multiple")
    assert words_of(store) == ["", "", "multiple", "", "blank", ""]
    assert store.counts() == dict.fromkeys(LABELS, 0) | {"multiple": 1, "blank": 1}


def test_labels_are_there_after_reopening(store, address):
    press(store, 1, "other")
    with open_store(address) as again:
        assert words_of(again) == ["", "other", "", "", "", ""]


def test_event_keeps_what_is_known_of_it(store):
    before = datetime.now(UTC)
    store.record(
        3,
        "single",
        labeller="anna",
        session="s",
        seq=7,
        time_on_screen_ms=812.4,
        shown="log scale, viridis",
    )
    (event,) = store.history()
    assert before <= event.labelled_at <= datetime.now(UTC)
    assert event.labelled_at.tzinfo is UTC
    assert (event.session, event.seq, event.kind) == ("s", 7, "label")
    assert (event.pattern, event.label, event.labeller) == (3, "single", "anna")
    assert (event.time_on_screen_ms, event.shown) == (812, "log scale, viridis")


def test_moments_do_not_depend_on_the_time_zone(store, monkeypatch):
    before = datetime.now(UTC)
    press(store, 0, "single")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        press(store, 0, "blank")
        moments = [event.labelled_at for event in store.history()]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert before <= moments[0] <= moments[1] <= datetime.now(UTC)


def test_history_keeps_everything_and_can_be_narrowed(store):
    press(store, 1, "single", "anna")
    press(store, 2, "blank", "ben")
    undo(store, "anna")
    assert [event.kind for event in store.history()] == ["label", "label", "undo"]
    assert [event.kind for event in store.history(pattern=1)] == ["label", "undo"]
    assert [event.pattern for event in store.history(labeller="ben")] == [2]


def test_repeated_event_is_stored_once(store):
    for _ in range(3):
        store.record(0, "single", labeller="anna", session="s", seq=1)
    assert len(store.history()) == 1


def test_repeated_undo_gives_the_same_answer(store):
    press(store, 0, "single")
    press(store, 1, "single")
    answers = [store.undo(labeller="anna", session="u", seq=1) for _ in range(3)]
    assert answers == [1, 1, 1]
    assert words_of(store) == ["single", "", "", "", "", ""]


def test_repeated_undo_of_nothing_still_takes_nothing_back(store):
    assert store.undo(labeller="anna", session="u", seq=1) is None
    press(store, 0, "single")
    assert store.undo(labeller="anna", session="u", seq=1) is None
    assert words_of(store)[0] == "single"


@pytest.mark.parametrize(
    "other", [{"pattern": 1}, {"label": "blank"}, {"labeller": "ben"}]
)
def test_other_content_for_the_same_event_is_refused(store, other):
    event = {"pattern": 0, "label": "single", "labeller": "anna"}
    store.record(**event, session="s", seq=1)
    with pytest.raises(
        LabelsError, match=r"event 1 of session s is stored as «single»"
    ):
        store.record(**(event | other), session="s", seq=1)
    assert words_of(store) == ["single", "", "", "", "", ""]


def test_label_and_undo_cannot_be_the_same_event(store):
    store.record(0, "single", labeller="anna", session="s", seq=1)
    with pytest.raises(LabelsError, match="cannot also be an undo by anna"):
        store.undo(labeller="anna", session="s", seq=1)
    store.undo(labeller="anna", session="s", seq=2)
    with pytest.raises(LabelsError, match="stored as an undo by anna"):
        store.record(0, "single", labeller="anna", session="s", seq=2)


@pytest.mark.parametrize("pattern", [-1, N_PATTERNS])
def test_pattern_outside_the_stack_is_refused(store, pattern):
    with pytest.raises(LabelsError, match=rf"no pattern {pattern}; expected 0 … 5"):
        press(store, pattern, "single")
    assert store.history() == []


@pytest.mark.parametrize("word", ["", "Single", "good", "'; DROP TABLE label_events"])
def test_unknown_word_is_refused(store, word):
    with pytest.raises(LabelsError, match="is no label; expected one of single, mult"):
        press(store, 0, word)
    assert store.history() == []


@pytest.mark.parametrize("name", ["", "a" * 201])
def test_name_that_not_every_database_can_hold_is_refused(store, name):
    with pytest.raises(LabelsError, match="name of the labeller has"):
        press(store, 0, "single", labeller=name)


def test_names_may_be_any_text(store):
    press(store, 0, "single", labeller="Ζωή 🔬 'x'; --", session="sitzung ü")
    assert store.labellers() == ("Ζωή 🔬 'x'; --",)


def test_undo_brings_back_what_was_there_before(store):
    press(store, 3, "single")
    press(store, 3, "multiple")
    assert undo(store) == 3
    assert words_of(store)[3] == "single"
    assert undo(store) == 3
    assert words_of(store)[3] == ""
    assert undo(store) is None


def test_undo_leaves_the_labels_of_others(store):
    press(store, 0, "single", "anna")
    press(store, 0, "blank", "ben")
    assert undo(store, "anna") == 0
    assert words_of(store, "ben")[0] == "blank"


ACTIONS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["anna", "ben"]),
            st.integers(0, N_PATTERNS - 1),
            st.sampled_from(LABELS),
        ),
        st.tuples(st.sampled_from(["anna", "ben"])),
    ),
    max_size=25,
)


@given(actions=ACTIONS)
@settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_store_is_a_list_of_presses(new_address, actions):
    with open_store(new_address()) as store:
        taken_back = [
            undo(store, *action)
            if len(action) == 1
            else press(store, *action[1:], action[0])
            for action in actions
        ]
        expected_back, words = reference.labels_by_replay(actions, N_PATTERNS)
        undone = [
            p for p, action in zip(taken_back, actions, strict=True) if len(action) == 1
        ]
        assert undone == expected_back
        assert store.labellers() == tuple(sorted(words))
        for labeller in words:
            assert words_of(store, labeller) == words[labeller]
        assert words_of(store) == [
            reference.most_frequent_word([each[p] for each in words.values()])
            for p in range(N_PATTERNS)
        ]


def test_newest_counts_even_if_the_clock_was_set_back(store, monkeypatch):
    press(store, 0, "single")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    monkeypatch.setattr("helpers.labels.events.now", lambda: yesterday)
    press(store, 0, "blank")
    press(store, 1, "other")
    assert words_of(store)[:2] == ["blank", "other"]
    assert len({event.labelled_at for event in store.history()}) == 1
    assert [undo(store) for _ in range(4)] == [1, 0, 0, None]


def test_other_patterns_are_refused(store, address):
    press(store, 0, "single")
    with pytest.raises(OtherPatternsError, match=r"labels of 6 patterns .* abc; .*xyz"):
        open_label_store(address, "xyz", N_PATTERNS)
    with pytest.raises(OtherPatternsError, match=r"expected labels of 7 patterns"):
        open_label_store(address, "abc", N_PATTERNS + 1)
    assert words_of(store)[0] == "single"


@pytest.mark.parametrize("is_old", [False, True])
def test_the_same_run_may_be_longer_if_somebody_says_so(store, address, is_old):
    press(store, 0, "single")
    if is_old:  # made before stores could remember this
        with plain_engine(address).begin() as connection:
            connection.exec_driver_sql("DROP TABLE same_runs")
    for same_run in (True, True, False):
        more = {"same_run": same_run}
        with open_label_store(address, "xyz", N_PATTERNS + 2, **more) as longer:
            assert words_of(longer) == ["single"] + [""] * (N_PATTERNS + 1)
    with open_label_store(address, "xyz", N_PATTERNS + 2) as longer:
        press(longer, N_PATTERNS + 1, "blank")
        assert undo(store) == 0  # the shorter stack knows nothing of the new label
        assert words_of(longer)[-1] == "blank"
    assert words_of(store) == [""] * N_PATTERNS


def test_blind_repeats_are_known_while_they_stand(store):
    press(store, 3, "single")
    shown = {"labeller": "anna", "shown": mark_repeat("log")}
    store.record(3, "blank", session="again", seq=1, **shown)
    store.record(2, "blank", session="again", seq=2, **shown | {"labeller": "bob"})
    assert store.repeated("anna").tolist() == [3]
    assert undo(store) == 3
    assert store.repeated("anna").tolist() == []
    assert words_of(store, "anna")[3] == "single"


INSERT = (
    "INSERT INTO label_events"
    " (session, seq, kind, labeller, labelled_at, shown, pattern, label)"
)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE label_events SET label = 'blank'",
        "DELETE FROM label_events",
        INSERT + " SELECT session, seq, kind, labeller, labelled_at, shown, pattern,"
        " label FROM label_events",
        INSERT + " SELECT session, 2, kind, labeller, labelled_at, shown, pattern,"
        " 'good' FROM label_events",
    ],
)
def test_database_itself_refuses_what_must_not_be(store, address, change):
    press(store, 0, "single")
    engine = plain_engine(address)
    with pytest.raises(sa.exc.SQLAlchemyError), engine.begin() as connection:
        connection.exec_driver_sql(change)
    engine.dispose()
    assert len(store.history()) == 1
    assert words_of(store)[0] == "single"


def test_current_label_can_be_read_by_any_program(store, address):
    press(store, 5, "single")
    press(store, 5, "other")
    engine = plain_engine(address)
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT pattern, labeller, label FROM current_labels"
        ).all()
    engine.dispose()
    assert rows == [(5, "anna", "other")]


def test_majority_counts_and_a_tie_is_unsure(store):
    for labeller, words in {
        "anna": ["single", "single", "single", "", "unsure"],
        "ben": ["single", "blank", "blank", "other", "single"],
        "cleo": ["blank", "", "other", "", "single"],
    }.items():
        for pattern, word in enumerate(words):
            if word:
                press(store, pattern, word, labeller)
    assert words_of(store) == ["single", "unsure", "unsure", "other", "single", ""]
    assert disagreements(store.votes()).tolist() == [0, 1, 2, 4]
    assert store.labellers() == ("anna", "ben", "cleo")
    assert store.votes()[1].tolist() == ["single", "blank", ""]


def test_imported_words_are_stored_once(store):
    words = np.array(["single", "", "other", "", "", "blank"])
    assert store.import_words(words, "facility", source="run7.h5") == 3
    assert store.import_words(words, "facility") == 0
    assert words_of(store) == words.tolist()
    assert {event.kind for event in store.history()} == {"import"}
    assert {event.shown for event in store.history()} == {"run7.h5"}


def test_imported_words_count_only_where_nobody_labelled_here(store):
    store.import_words(np.array(["single", "single", "", "", "", ""]), "facility")
    press(store, 0, "blank")
    assert words_of(store) == ["blank", "single", "", "", "", ""]
    assert words_of(store, "facility")[0] == "single"
    undo(store)
    assert words_of(store)[0] == "single"


def test_undo_does_not_reach_imported_words(store):
    store.import_words(np.array(["single"] + [""] * 5), "anna")
    assert undo(store) is None
    assert words_of(store)[0] == "single"


def test_importing_again_does_not_take_back_a_correction(store):
    words = np.array(["single"] + [""] * 5)
    store.import_words(words, "anna")
    press(store, 0, "blank", "anna")
    assert store.import_words(words, "anna") == 0
    assert words_of(store)[0] == "blank"


def test_importing_another_word_and_the_first_again_is_news_each_time(store):
    for word in ("single", "blank", "single"):
        assert store.import_words(np.array([word] + [""] * 5), "anna") == 1
        assert words_of(store)[0] == word


def test_words_must_fit_the_patterns(store):
    with pytest.raises(LabelsError, match=r"shape \(5,\); expected \(6,\)"):
        store.import_words(np.array([""] * 5))
    with pytest.raises(LabelsError, match="'good', 'hit' are no labels"):
        store.import_words(np.array(["good", "", "hit", "single", "", ""]))
    assert store.history() == []


def test_merge_copies_what_is_new(store, new_address):
    with open_store(new_address()) as other:
        press(other, 0, "single", "ben")
        press(other, 1, "blank", "ben")
        undo(other, "ben")
        press(store, 1, "multiple", "anna")
        assert store.merge(other) == 3
        assert store.merge(other) == 0
        assert words_of(store) == ["single", "multiple", "", "", "", ""]
        assert other.merge(store) == 1
        assert words_of(other) == words_of(store)
        assert undo(store, "ben") == 0


def test_merge_lets_the_newest_label_count(store, new_address):
    with open_store(new_address()) as other:
        press(other, 0, "single")
        press(store, 0, "blank")
        press(other, 1, "single")
        store.merge(other)
        assert words_of(store)[:2] == ["blank", "single"]
        assert undo(store) == 1
        assert undo(store) == 0
        assert words_of(store)[:2] == ["single", ""]


def test_merge_knows_the_same_import(store, new_address):
    words = np.array(["single", "", "other", "", "", ""])
    with open_store(new_address()) as other:
        store.import_words(words)
        other.import_words(words)
        assert store.merge(other) == 0


def test_merge_of_contradictory_events_copies_nothing(store, new_address):
    with open_store(new_address()) as other:
        press(other, 1, "single")
        other.record(0, "single", labeller="anna", session="s", seq=1)
        store.record(0, "blank", labeller="anna", session="s", seq=1)
        with pytest.raises(
            LabelsError, match="event 1 of session s is stored as «blank»"
        ):
            store.merge(other)
        assert words_of(store) == ["blank", "", "", "", "", ""]


def test_merge_of_other_patterns_is_refused(store, new_address):
    with (
        open_label_store(new_address(), "xyz", N_PATTERNS) as other,
        pytest.raises(OtherPatternsError, match="fingerprint xyz"),
    ):
        store.merge(other)


def test_many_threads_may_use_one_store(store):
    def work(name):
        for seq in range(1, 16):
            store.record(
                seq % N_PATTERNS, "single", labeller=name, session=name, seq=seq
            )
        store.undo(labeller=name, session=name, seq=16)

    names = [f"labeller {i}" for i in range(8)]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(work, names))
    for name in names:
        events = store.history(labeller=name)
        assert [event.seq for event in events] == list(range(1, 17))
        assert events[-1].undone_seq == 15
    assert store.labellers() == tuple(names)


def test_many_stores_may_be_open_on_one_database(new_address):
    address = new_address()

    def work(name):
        with open_store(address) as store:
            for seq in range(1, 6):
                store.record(seq, LABELS[seq % 5], labeller=name, session=name, seq=seq)
            return [store.undo(labeller="all", session=name, seq=6)]

    names = [f"labeller {i}" for i in range(6)]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(work, names))
    with open_store(address) as store:
        assert len(store.history()) == 36
        assert disagreements(store.votes()).tolist() == []


def test_a_store_may_appear_while_it_is_looked_for(new_address, monkeypatch):
    address = new_address()
    names, made = sa.Inspector.get_table_names, []

    def make_then(inspector, *arguments, **options):
        found = names(inspector, *arguments, **options)
        if not made:
            made.append(True)
            with ThreadPoolExecutor(1) as pool:
                pool.submit(lambda: open_store(address).close()).result()
        return found

    monkeypatch.setattr(sa.Inspector, "get_table_names", make_then)
    open_store(address).close()
    assert made


def test_undos_at_once_take_back_different_labels(address):
    with open_store(address) as store:
        for pattern in range(N_PATTERNS):
            press(store, pattern, "single")

    def work(name):
        with open_store(address) as store:
            return store.undo(labeller="anna", session=name, seq=1)

    with ThreadPoolExecutor(N_PATTERNS) as pool:
        undone = list(pool.map(work, [f"u{i}" for i in range(N_PATTERNS)]))
    assert sorted(undone) == list(range(N_PATTERNS))
