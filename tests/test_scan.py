"""The one loop over patterns: every one once, in order, however it is cut and run."""

import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from helpers.errors import PatternsFileError
from helpers.patterns import Patterns, open_patterns, scan
from helpers.patterns.sources import JoinedSources

ROWS, COLUMNS = 5, 4
FRAME = (ROWS, COLUMNS)
PATTERN_BYTES = ROWS * COLUMNS * 4
VALUES = np.random.default_rng(0).normal(3, 2, (20, *FRAME)).astype("f4")
BAD = np.zeros(FRAME, bool)
BAD[1, 2] = BAD[4, 0] = True


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make parts of three patterns, and let chunks of up to six be whole."""
    monkeypatch.setattr(scan, "PART_BYTES", 3 * PATTERN_BYTES)
    monkeypatch.setattr(scan, "WHOLE_CHUNK_BYTES", 6 * PATTERN_BYTES)


@pytest.fixture
def use_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def use(n: int) -> None:
        monkeypatch.setattr(scan, "count_threads", lambda: n)

    return use


def write(path: Path, values: np.ndarray = VALUES, **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("patterns", data=values, **options)
    return path


@pytest.fixture
def stack(tmp_path: Path) -> Patterns:
    """Three files of 7, 1 and 12 patterns, stored in three ways."""
    options: list[Any] = [
        {},
        {"chunks": (1, *FRAME)},
        {"chunks": (5, 2, 3), "compression": "gzip"},
    ]
    parts = zip(np.split(VALUES, [7, 8]), options, strict=True)
    paths = [write(tmp_path / f"{i}.h5", v, **how) for i, (v, how) in enumerate(parts)]
    return open_patterns(paths, bad_pixels=BAD)


def bits(results: Iterator[tuple[slice, np.ndarray]]) -> list[tuple[slice, bytes]]:
    return [(part, result.tobytes()) for part, result in results]


def root_of_sums(block: np.ndarray) -> np.ndarray:
    """Stand in for arithmetic whose last bits depend on what stands side by side."""
    return np.sqrt(np.abs(block)).sum(axis=0)


class TestOrder:
    @pytest.mark.parametrize("n_threads", [1, 2, 4])
    def test_every_pattern_once_and_in_order(
        self, stack: Patterns, use_threads: Callable[[int], None], n_threads: int
    ) -> None:
        use_threads(n_threads)
        found = np.full(VALUES.shape, np.nan)
        ends = []
        for part, block in stack.map(np.copy):
            found[part] = block
            ends.append(part.stop)
        np.testing.assert_array_equal(found, stack[:])
        # chunks of file 2 begin at pattern 8, 13, 18 and are not cut
        assert ends == [3, 6, 8, 13, 18, 20]

    def test_a_slow_part_holds_up_those_after_it(
        self, stack: Patterns, use_threads: Callable[[int], None]
    ) -> None:
        use_threads(4)
        first = stack[0].tobytes()

        def wait(block: np.ndarray) -> int:
            time.sleep(0.1 if block[0].tobytes() == first else 0)
            return len(block)

        assert [n for _, n in stack.map(wait)] == [3, 3, 2, 5, 5, 2]

    @settings(max_examples=50)
    @given(index=st.lists(st.integers(-20, 19), max_size=30))
    def test_any_index_in_the_order_given(self, index: list[int]) -> None:
        patterns = open_patterns(write(Path(self.folder) / "a.h5", chunks=(2, *FRAME)))
        parts = list(patterns.map(np.copy, index))
        found = np.concatenate([VALUES[:0], *(block for _, block in parts)])
        np.testing.assert_array_equal(found, VALUES[index])
        assert sum(part.stop - part.start for part, _ in parts) == len(index)

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        type(self).folder = tmp_path_factory.mktemp("index")

    def test_an_index_that_does_not_exist_is_refused_at_once(
        self, stack: Patterns
    ) -> None:
        with pytest.raises(IndexError, match="there are 20 patterns"):
            stack.map(len, [3, 20])

    def test_raw_values_are_those_of_the_file(self, tmp_path: Path) -> None:
        values = np.rint(VALUES).astype("i2")
        patterns = open_patterns(write(tmp_path / "a.h5", values), bad_pixels=BAD)
        found = np.concatenate([block for _, block in patterns.map(np.copy, raw=True)])
        np.testing.assert_array_equal(found, values, strict=True)

    def test_a_length_in_place_of_the_usual_one(self, stack: Patterns) -> None:
        assert [n for _, n in stack.map(len, length=9)] == [8, 5, 7]


class TestGroups:
    @pytest.mark.parametrize("raw", [False, True])
    def test_pieces_of_a_group_are_put_together(
        self, stack: Patterns, monkeypatch: pytest.MonkeyPatch, raw: bool
    ) -> None:
        monkeypatch.setattr(scan, "PIECE_BYTES", 2 * PATTERN_BYTES)
        pieces: list[int] = []

        def join(blocks: list[np.ndarray]) -> np.ndarray:
            pieces.append(len(blocks))
            return np.concatenate(blocks)

        found = list(stack.map_in_groups(np.copy, join, 10, raw=raw))
        assert [part.stop for part, _ in found] == [8, 18, 20]
        assert max(pieces) > 1
        expected = VALUES if raw else stack[:]
        np.testing.assert_array_equal(np.concatenate([b for _, b in found]), expected)

    def test_memory_is_used_again_but_not_by_two_threads(self) -> None:
        first = scan.reused_array("a", (3, 4))
        assert np.shares_memory(first, scan.reused_array("a", (2, 5)))
        assert not np.shares_memory(first, scan.reused_array("b", (2, 5)))
        with ThreadPoolExecutor(1) as thread:
            other = thread.submit(scan.reused_array, "a", (3, 4)).result()
        assert not np.shares_memory(first, other)


class TestSameBits:
    """No number depends on the machine or on where one went on."""

    def test_whatever_the_number_of_threads(
        self, stack: Patterns, use_threads: Callable[[int], None]
    ) -> None:
        found = []
        for n_threads in (1, 2, 4):
            use_threads(n_threads)
            found.append(bits(stack.map(root_of_sums)))
        assert found[0] == found[1] == found[2]

    @pytest.mark.parametrize("index", [None, np.arange(20)[::-1], np.arange(3, 17)])
    def test_wherever_one_goes_on(self, stack: Patterns, index: Any) -> None:
        whole = bits(stack.map(root_of_sums, index))
        n = len(stack) if index is None else len(index)
        for start in range(n + 1):
            rest = bits(stack.map(root_of_sums, index, start=start))
            assert rest == [part for part in whole if part[0].stop > start]

    def test_a_chunk_too_long_for_memory_is_cut(self, tmp_path: Path) -> None:
        patterns = open_patterns(write(tmp_path / "a.h5", chunks=(20, *FRAME)))
        assert [n for _, n in patterns.map(len)] == [3, 3, 3, 3, 3, 5]


class TestThreads:
    def test_an_error_reaches_the_caller_after_what_came_before(
        self, stack: Patterns, use_threads: Callable[[int], None]
    ) -> None:
        use_threads(2)
        bad, begun = stack[8].tobytes(), []

        def fail(block: np.ndarray) -> int:
            begun.append(len(block))
            if block[0].tobytes() == bad:
                message = "broken"
                raise ValueError(message)
            return len(block)

        results, seen = stack.map(fail, length=1), []
        with pytest.raises(ValueError, match="broken"):
            seen.extend(n for _, n in results)
        assert sum(seen) == 8
        assert len(begun) < 20

    def test_damage_is_reported_to_the_caller(self, tmp_path: Path) -> None:
        patterns = open_patterns(write(tmp_path / "a.h5"))
        patterns.close()
        (tmp_path / "a.h5").unlink()
        with pytest.raises(PatternsFileError, match="no such file"):
            list(patterns.map(len))

    def test_leaving_early_leaves_no_thread(self, stack: Patterns) -> None:
        before = threading.active_count()
        results = stack.map(len)
        next(results)
        assert threading.active_count() > before
        results.close()
        assert threading.active_count() == before

    def test_a_few_parts_are_done_ahead_and_not_more(
        self, stack: Patterns, use_threads: Callable[[int], None]
    ) -> None:
        use_threads(2)
        begun: list[int] = []
        results = stack.map(lambda block: begun.append(len(block)), range(20), length=1)
        next(results)
        for _ in range(200):
            if len(begun) == 4:
                break
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(begun) == 4  # of 20: two for each thread
        results.close()

    def test_libraries_keep_to_one_thread_until_the_last_loop_ends(
        self, stack: Patterns
    ) -> None:
        def n_threads() -> set[int]:
            infos = threadpool_info()
            return {i["num_threads"] for i in infos if i["user_api"] == "blas"}

        before = n_threads()
        one, other = stack.map(len), stack.map(len)
        next(one), next(other)
        assert n_threads() == {1}
        one.close()
        assert n_threads() == {1}
        other.close()
        assert n_threads() == before


def test_memory_does_not_grow_with_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_threads: Callable[[int], None]
) -> None:
    use_threads(2)
    part_bytes = 2**20
    monkeypatch.setattr(scan, "PART_BYTES", part_bytes)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("patterns", (4000, 64, 64), "f8", chunks=(1, 64, 64))
    patterns = open_patterns(tmp_path / "a.h5")
    list(patterns.map(len, range(64)))  # what is allocated once
    tracemalloc.start()
    for _ in patterns.map(np.copy):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # of each of two threads: a part, the same as recorded, and two results; 62 are all
    assert peak < 14 * part_bytes


def test_what_is_planned_does_not_grow_with_the_stack() -> None:
    n = 40_000
    edges = scan.IndexEdges(np.arange(n))
    tracemalloc.start()
    parts = scan.cut_parts(edges, n, 1, 1)
    ends = 0
    for _, stop in scan.run_parts(lambda p: p.stop, parts, (0, n), "", per_block=50):
        ends += stop
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ends == n * (n + 1) // 2
    # a list of all parts alone is 4 MB; threads of earlier tests may take some, too
    assert peak < 2_000_000


@pytest.mark.parametrize("lengths", [(7, 1, 12), (3, 0, 4), (1,)])
def test_chunks_of_a_whole_stack_are_where_those_of_all_indices_are(
    lengths: tuple[int, ...],
) -> None:
    sources: list[Any] = [
        SimpleNamespace(shape=(n, *FRAME), chunk=chunk, dtype=np.dtype("f4"))
        for n, chunk in zip(lengths, (1, 2, 5), strict=False)
    ]
    stack, n = JoinedSources(sources), sum(lengths)
    listed = scan.IndexEdges(stack.find_chunks(np.arange(n)))
    for at in range(n):
        assert stack.last_edge(at) == listed.last_edge(at)
        assert stack.next_edge(at) == listed.next_edge(at)


def test_the_bar_counts_patterns(
    stack: Patterns, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "BAR_DELAY_S", 0)
    list(stack.map(len))
    assert capsys.readouterr().err == ""
    list(stack.map(len, start=8, progress="Measure"))
    assert "Measure: 100%" in (shown := capsys.readouterr().err)
    assert "20/20" in shown
    assert "Measure:  40%" in shown  # 8 were done already


@given(lengths=st.lists(st.integers(0, 7), max_size=12), length=st.integers(1, 9))
def test_batches_have_one_length(lengths: list[int], length: int) -> None:
    values = np.arange(sum(lengths))
    parts = np.split(values, np.cumsum(lengths))[: len(lengths)]
    found = list(scan.batches(parts, length))
    np.testing.assert_array_equal(np.concatenate([values[:0], *found]), values)
    assert {len(batch) for batch in found[:-1]} <= {length}
    assert all(0 < len(batch) <= length for batch in found)


@pytest.mark.parametrize(
    ("n", "blocks"),
    [(1_000, 50), (2_000, 67), (50_000, 500), (3_000_000, 4_110), (10**7, 12_500)],
)
def test_a_short_stack_is_cut_into_smaller_blocks_and_a_long_one_into_larger(
    stack: Patterns, monkeypatch: pytest.MonkeyPatch, n: int, blocks: int
) -> None:
    for name, length in (("PART", 5), ("BLOCK", 100), ("LARGEST_BLOCK", 800)):
        monkeypatch.setattr(scan, f"{name}_BYTES", length * PATTERN_BYTES)
    length = 5 * stack._per_block(n, 5)
    assert -(-n // length) == blocks
