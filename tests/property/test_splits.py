"""Splits never overlap, never look ahead, and leave no fold empty."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from twinloop.errors import EmptyWindowError, TargetError, TwinloopError
from twinloop.splitting import Split, split_rows
from twinloop.workload import Workload

SETTINGS = settings(max_examples=100, deadline=None)
HOUR = 3_600_000_000


def workload(training: dict[str, Any], **more: Any) -> Workload:
    """Return a workload with these rules of training."""
    return Workload.model_validate(
        {
            "name": "w",
            "task": "regression",
            "source": {"kind": "files", "path": "x"},
            "target": "y",
            "training": training,
        }
        | more
    )


def assert_whole(split: Split, n_rows: int) -> None:
    """Hold what is true of every split: parts are disjoint, ordered, full of known rows."""
    assert len(split.train)
    assert len(split.holdout)
    assert split.folds
    assert not set(split.train) & set(split.holdout)
    assert set(split.train) | set(split.holdout) <= set(range(n_rows))
    for fitted, valid in split.folds:
        assert len(fitted)
        assert len(valid)
        assert not set(fitted) & set(valid)
        assert not (set(fitted) | set(valid)) & set(split.holdout)


@SETTINGS
@given(
    st.lists(st.integers(0, 400), min_size=20, max_size=80),
    st.integers(2, 6),
    st.integers(0, 30),
    st.floats(0.05, 0.5) | st.integers(1, 200).map(lambda h: timedelta(hours=h)),
)
def test_time_is_never_looked_ahead(
    hours: list[int], folds: int, gap: int, holdout: float | timedelta
) -> None:
    """Training ends a gap before validation, and all of it a gap before the holdout."""
    times = np.array(hours) * HOUR
    training = {"folds": folds, "gap": timedelta(hours=gap), "holdout": holdout}
    try:
        split = split_rows(workload(training, time="t"), len(times), times=times)
    except EmptyWindowError:
        assume(False)
        return
    assert_whole(split, len(times))
    assert len(split.folds) <= folds
    for fitted, valid in [*split.folds, (split.train, split.holdout)]:
        assert times[fitted].max() + gap * HOUR < times[valid].min()
    assert set(np.flatnonzero(times >= times[split.holdout].min())) == set(split.holdout)


@SETTINGS
@given(
    st.lists(st.integers(0, 400), min_size=20, max_size=80),
    st.integers(2, 6),
    st.integers(0, 30),
    st.integers(1, 200),
)
def test_rolling_folds_are_fitted_on_one_length(
    hours: list[int], folds: int, gap: int, rolling: int
) -> None:
    """Each is fitted on every row of a window of that length a gap before it, and on no other."""
    times = np.array(hours) * HOUR
    training = {"folds": folds, "gap": timedelta(hours=gap), "rolling": timedelta(hours=rolling)}
    try:
        split = split_rows(workload(training, time="t"), len(times), times=times)
    except EmptyWindowError:
        assume(False)
        return
    assert_whole(split, len(times))
    for fitted, valid in split.folds:
        # A fold begins with a row of its own, so its window is known exactly.
        end = times[valid].min() - gap * HOUR
        assert end - rolling * HOUR >= times.min()
        window = (times < end) & (times >= end - rolling * HOUR)
        assert set(np.flatnonzero(window)) == set(fitted)
    for rows in (split.train, split.served):
        assert np.ptp(times[rows]) < rolling * HOUR
    assert times[split.train].max() + gap * HOUR < times[split.holdout].min()
    assert times[split.served].max() == times.max()


def test_folds_by_time_roll() -> None:
    """With rows at an even pace all folds are there and are fitted on a window each."""
    times = np.arange(120) * HOUR
    training = {"folds": 4, "holdout": 0.25, "rolling": timedelta(hours=10)}
    split = split_rows(workload(training, time="t"), 120, times=times)
    assert [len(fitted) for fitted, _ in split.folds] == [10, 10, 10, 10]
    assert [len(valid) for _, valid in split.folds] == [20, 20, 20, 20]
    assert split.train.tolist() == list(range(80, 90))
    assert split.served.tolist() == list(range(110, 120))
    assert (
        split.description == "time: 4 rolling folds of 10h, gap 0s, holdout the last 30 of 120 rows"
    )


@SETTINGS
@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 30)), min_size=20, max_size=80),
    st.integers(2, 5),
    st.integers(0, 20),
    st.none() | st.integers(20, 100),
)
def test_groups_never_straddle_in_time(
    rows: list[tuple[int, int]], folds: int, gap: int, rolling: int | None
) -> None:
    """Time goes forward and no group is on both sides; every row of a new group is judged on."""
    times, groups = (np.array(values) for values in zip(*rows, strict=True))
    times = times * HOUR
    training: dict[str, Any] = {"folds": folds, "gap": timedelta(hours=gap)}
    if rolling is not None:
        training["rolling"] = timedelta(hours=rolling)
    spec = workload(training, time="t", group="g")
    try:
        split = split_rows(spec, len(times), times=times, groups=groups)
    except EmptyWindowError:
        assume(False)
        return
    assert_whole(split, len(times))
    for fitted, valid in [*split.folds, (split.train, split.holdout)]:
        assert times[fitted].max() + gap * HOUR < times[valid].min()
        assert not set(groups[fitted]) & set(groups[valid])
    cut = times.max() + 1 - int((times.max() + 1 - times.min()) * spec.training.holdout)
    known = set(groups[times < cut - gap * HOUR])
    wanted = [i for i in np.flatnonzero(times >= cut) if groups[i] not in known]
    assert split.holdout.tolist() == wanted


def test_groups_of_text_are_told_apart_in_time() -> None:
    """Names do as well as numbers, and the description says what was left out."""
    times = np.arange(100) * HOUR
    groups = np.array([f"g{i // 7}" for i in range(100)], object)
    spec = workload({"folds": 3, "holdout": 0.3}, time="t", group="who")
    split = split_rows(spec, 100, times=times, groups=groups)
    assert split.holdout.tolist() == list(range(70, 100))
    groups = np.array([f"g{(i + 4) // 7}" for i in range(100)], object)
    moved = split_rows(spec, 100, times=times, groups=groups)
    assert moved.holdout.tolist() == list(range(73, 100))
    assert moved.description == (
        "time, groups of 'who' apart: 3 expanding folds, gap 0s, "
        "holdout 27 of the last 30 of 100 rows"
    )


def test_groups_that_go_on_are_refused() -> None:
    """Where every group is there all the time nothing is left to judge on, and that is said."""
    spec = workload({"folds": 3}, time="t", group="who")
    with pytest.raises(EmptyWindowError, match=r"of a group 'who' that was not trained on"):
        split_rows(spec, 100, times=np.arange(100) * HOUR, groups=np.arange(100) % 4)


@SETTINGS
@given(
    st.integers(60, 200),
    st.integers(2, 4),
    st.integers(2, 4),
    st.sampled_from(["kfold", "stratified", "group"]),
    st.integers(0, 2**32 - 1),
)
def test_every_draw_covers_all_rows(
    n_rows: int, folds: int, repeats: int, kind: str, seed: int
) -> None:
    """Repeated folds validate each row once a draw, and no two draws are alike."""
    draw = np.random.default_rng(seed)
    rows = {"classes": draw.integers(0, 2, n_rows), "groups": np.arange(n_rows) % 60}
    names = {"kfold": {}, "stratified": {"task": "binary"}, "group": {"group": "g"}}
    given_rows = {
        k: v for k, v in rows.items() if k == {"stratified": "classes", "group": "groups"}.get(kind)
    }
    spec = workload({"folds": folds, "repeats": repeats}, seed=seed, **names[kind])
    assert spec.split == kind
    split = split_rows(spec, n_rows, **given_rows)
    assert_whole(split, n_rows)
    assert len(split.folds) == folds * repeats
    draws = [split.folds[i : i + folds] for i in range(0, len(split.folds), folds)]
    for pairs in draws:
        assert sorted(np.concatenate([valid for _, valid in pairs])) == split.train.tolist()
        for fitted, valid in pairs:
            assert sorted([*fitted, *valid]) == split.train.tolist()
            if kind == "group":
                assert not set(rows["groups"][fitted]) & set(rows["groups"][valid])
    shapes = {tuple(tuple(valid) for _, valid in pairs) for pairs in draws}
    assert len(shapes) == repeats
    once = split_rows(workload({"folds": folds}, seed=seed, **names[kind]), n_rows, **given_rows)
    assert [v.tolist() for _, v in once.folds] == [v.tolist() for _, v in draws[0]]
    assert f"{folds} folds drawn {repeats} times" in split.description


@SETTINGS
@given(st.lists(st.integers(0, 30), min_size=20, max_size=80), st.integers(2, 6))
def test_rows_of_one_instant_stay_together(hours: list[int], folds: int) -> None:
    """No instant lies on both sides of a cut, and validation folds do not overlap."""
    times = np.array(hours) * HOUR
    try:
        split = split_rows(workload({"folds": folds}, time="t"), len(times), times=times)
    except EmptyWindowError:
        assume(False)
        return
    parts = [set(times[valid]) for _, valid in split.folds] + [set(times[split.holdout])]
    assert sum(map(len, parts)) == len(set().union(*parts))
    for fitted, valid in split.folds:
        assert not set(times[fitted]) & set(times[valid])


def test_folds_by_time_expand() -> None:
    """With rows at an even pace each fold trains on all before it, and all folds are there."""
    times = np.arange(120) * HOUR
    split = split_rows(workload({"folds": 4, "holdout": 0.25}, time="t"), 120, times=times)
    assert len(split.holdout) == 30
    assert [len(fitted) for fitted, _ in split.folds] == [18, 36, 54, 72]
    assert [len(valid) for _, valid in split.folds] == [18, 18, 18, 18]


def test_a_holdout_can_be_a_span() -> None:
    """The last day is held out whole."""
    times = np.arange(240) * HOUR
    training = {"holdout": timedelta(days=1), "gap": timedelta(hours=2)}
    split = split_rows(workload(training, time="t"), 240, times=times)
    assert split.holdout.tolist() == list(range(216, 240))
    assert split.train.max() == 213


@SETTINGS
@given(st.integers(20, 300), st.integers(2, 8), st.floats(0.1, 0.5), st.integers(0, 99))
def test_chance_uses_every_row_once(n_rows: int, folds: int, share: float, seed: int) -> None:
    """Each row is in the holdout or validated exactly once."""
    try:
        split = split_rows(workload({"folds": folds, "holdout": share}, seed=seed), n_rows)
    except EmptyWindowError:
        assume(False)
        return
    assert_whole(split, n_rows)
    parts = [split.holdout, *(valid for _, valid in split.folds)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(n_rows))


@SETTINGS
@given(st.lists(st.integers(0, 15), min_size=40, max_size=120), st.integers(2, 4))
def test_groups_never_straddle(groups: list[int], folds: int) -> None:
    """All rows of a group lie on one side of every cut."""
    codes = np.array(groups)
    try:
        split = split_rows(workload({"folds": folds}, group="g"), len(codes), groups=codes)
    except EmptyWindowError:
        assume(False)
        return
    assert_whole(split, len(codes))
    for one, other in [*split.folds, (split.train, split.holdout)]:
        assert not set(codes[one]) & set(codes[other])


@SETTINGS
@given(st.integers(60, 300), st.floats(0.2, 0.5), st.integers(2, 5), st.integers(0, 99))
def test_strata_keep_their_shares(n_rows: int, rare: float, folds: int, seed: int) -> None:
    """Each class is spread over the folds as evenly as whole rows allow."""
    classes = (np.random.default_rng(seed).random(n_rows) < rare).astype(np.int64)
    try:
        split = split_rows(
            workload({"folds": folds}, task="binary", seed=seed), n_rows, classes=classes
        )
    except (EmptyWindowError, TargetError):
        assume(False)
        return
    assert_whole(split, n_rows)
    for label in (0, 1):
        counts = [int((classes[valid] == label).sum()) for _, valid in split.folds]
        assert max(counts) - min(counts) <= 1
        assert min(counts) >= 1


@SETTINGS
@given(st.integers(30, 200), st.integers(0, 99), st.integers(1, 100))
def test_a_row_stays_in_the_holdout_when_the_table_grows(n: int, seed: int, more: int) -> None:
    """What one version never saw, the next does not see either, in whatever order rows come."""
    identity = np.random.default_rng(seed).integers(0, 2**64, n + more, np.uint64)
    order = np.random.default_rng(seed + 1).permutation(n + more)
    small = split_rows(workload({"folds": 2}), n, identity=identity[:n])
    large = split_rows(workload({"folds": 2}), n + more, identity=identity[order])
    held = set(identity[order][large.holdout].tolist())
    assert set(identity[:n][small.holdout].tolist()) <= held
    assert not set(identity[:n][small.train].tolist()) & held


def test_equal_rows_are_held_out_together() -> None:
    """A copy of a holdout row never lies among the training rows."""
    identity = np.repeat(np.arange(50, dtype=np.uint64), 3)
    split = split_rows(workload({"folds": 3}), 150, identity=identity)
    assert not set(identity[split.train]) & set(identity[split.holdout])


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.8])
def test_the_holdout_has_its_share(share: float) -> None:
    """The share asked for is held out, to within four standard deviations of chance."""
    split = split_rows(workload({"folds": 2, "holdout": share}, seed=3), 4000)
    assert abs(len(split.holdout) / 4000 - share) < 4 * np.sqrt(share * (1 - share) / 4000)


def test_the_seed_decides() -> None:
    """One seed, one split; another seed, another."""
    splits = [split_rows(workload({}, seed=seed), 100) for seed in (1, 1, 2)]
    assert splits[0].holdout.tolist() == splits[1].holdout.tolist()
    assert splits[0].holdout.tolist() != splits[2].holdout.tolist()
    assert splits[0].folds[0][1].tolist() == splits[1].folds[0][1].tolist()


@pytest.mark.parametrize(
    ("training", "more", "rows"),
    [
        ({}, {}, {"n_rows": 19}),
        ({"folds": 50}, {}, {"n_rows": 25}),
        ({"holdout": 0.01}, {"seed": 1}, {"n_rows": 20}),
        ({}, {"group": "g"}, {"n_rows": 100, "groups": np.arange(100) % 3}),
        ({"gap": timedelta(days=99)}, {"time": "t"}, {"n_rows": 50, "times": np.arange(50)}),
        ({}, {"time": "t"}, {"n_rows": 50, "times": np.zeros(50, np.int64)}),
        ({"rolling": timedelta(2)}, {"time": "t"}, {"n_rows": 50, "times": np.arange(50) * HOUR}),
        ({"rolling": timedelta(0, 1)}, {"time": "t"}, {"n_rows": 50, "times": np.arange(50) // 45}),
        ({}, {"task": "binary"}, {"n_rows": 50, "classes": (np.arange(50) == 3).astype(int)}),
        ({"folds": 50}, {"task": "binary"}, {"n_rows": 60, "classes": np.arange(60) % 2}),
    ],
)
def test_too_few_rows_are_refused(
    training: dict[str, Any], more: dict[str, Any], rows: dict[str, Any]
) -> None:
    """Whatever cannot be divided is a TwinloopError with numbers in it, never a stray one."""
    with pytest.raises(TwinloopError, match=r"\d"):
        split_rows(workload(training, **more), **rows)
