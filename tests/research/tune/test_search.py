"""A whole search on made-up candles: trials that are counted, kept and never done twice."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
import warnings

import numpy as np
import pytest

from freqai_lstm_plugins.errors import (
    ConfigError,
    DataError,
    TrainingError,
    UnwritableError,
    WorkersLostError,
)
from freqai_lstm_plugins.research import jobs as jobs_module
from freqai_lstm_plugins.research.store import find_entries, list_entries
from freqai_lstm_plugins.research.tune import objective as objective_module
from freqai_lstm_plugins.research.tune import study as study_module
from freqai_lstm_plugins.research.tune.objective import Runner
from freqai_lstm_plugins.research.tune.search import Search
from freqai_lstm_plugins.research.tune.session import open_session
from freqai_lstm_plugins.research.tune.storage import (
    WORKER,
    default_url,
    open_storage,
)
from freqai_lstm_plugins.research.tune.study import (
    BELONGS,
    REASON,
    SETTINGS,
    completed,
    finished,
)

from .studies import RANGES, TREES, asked, dead_process, search, write_candles

optuna = pytest.importorskip("optuna")
for needed in ("arch", "purgedcv", "joblib", "lightgbm", "plotly"):
    pytest.importorskip(needed)

LAGS = {"ridge": {"lags": {"choices": [[0], [0, 1], [0, 9]]}, "alpha": {"min": 0.1, "max": 1.0}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_candles(tmp_path_factory.mktemp("candles"))


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    return search(folder, tmp_path_factory.mktemp("out"))


def tried(session):
    return [(one.number, one.value, one.user_attrs[SETTINGS]) for one in finished(session.study)]


def test_a_study_has_as_many_finished_trials_as_asked_for(done):
    assert [one.number for one in completed(done.study)] == [0, 1, 2, 3]
    assert len(done.study.get_trials()) == 4


def test_the_defaults_are_the_first_trial(done):
    first = completed(done.study)[0]
    # 31 leaves lie outside the range, and are the default all the same.
    assert first.user_attrs[SETTINGS] == {"num_leaves": 31, "learning_rate": 0.05}
    # The sampler learns of what it could have drawn.
    assert first.params == {"learning_rate": 0.05}


def test_integers_stay_integers_in_the_jobs(done):
    settings = [entry.metadata["settings"] for entry in list_entries(done.task.started.out)]
    assert {type(one["num_leaves"]) for one in settings} == {int}
    assert {one["n_estimators"] for one in settings} == {8}


def test_a_score_is_the_mean_rank_correlation_of_all_folds_and_symbols(done):
    trial = completed(done.study)[1]
    wanted = trial.user_attrs[SETTINGS]
    entries = [
        entry
        for entry in list_entries(done.task.started.out)
        if wanted.items() <= entry.metadata["settings"].items()
    ]
    assert len(entries) == 4
    figures = [entry.metadata["metrics"]["rank_ic"] for entry in entries]
    assert trial.value == pytest.approx(np.mean(figures))


def test_a_search_goes_on_where_it_ended(done, folder, tmp_path):
    search(folder, tmp_path, 2)
    again = search(folder, tmp_path, 4)
    assert tried(again) == tried(done)


def test_a_finished_search_computes_nothing(done, folder, monkeypatch):
    monkeypatch.setattr(study_module, "evaluate", lambda *_, **__: pytest.fail("tried again"))
    assert tried(search(folder, done.asked.out, 4)) == tried(done)


def test_trials_share_windows_and_none_changes_them(done):
    # Two folds and two symbols, whatever the number of trials.
    assert len(done.task.shared.held) == 4
    for job in done.task.base:
        kept, fresh = done.task.shared.inputs(job), jobs_module.make_inputs(job)
        assert done.task.shared.inputs(job) is kept
        np.testing.assert_array_equal(kept.assembled.rows, fresh.assembled.rows)
        for part in ("train", "valid"):
            one, other = (getattr(inputs.assembled.data, part) for inputs in (kept, fresh))
            np.testing.assert_array_equal(one.targets, other.targets)
            np.testing.assert_array_equal(one.rows, other.rows)


def test_what_does_not_fit_is_made_anew(done):
    shared = jobs_module.Shared(most_bytes=done.task.shared.n_bytes // 2)
    for job in done.task.base:
        shared.inputs(job)
    assert 0 < len(shared.held) < 4
    assert shared.n_bytes <= shared.most_bytes


def test_another_seed_tries_something_else(done, folder, tmp_path):
    other = search(folder, tmp_path, 4, how=Search(seed=1))
    assert tried(other)[0] == tried(done)[0]
    assert tried(other)[1:] != tried(done)[1:]


def test_settings_seen_before_are_answered_from_the_store(folder, tmp_path, monkeypatch):
    computed = []
    real = jobs_module._compute
    monkeypatch.setattr(
        jobs_module, "_compute", lambda job, *rest: computed.append(job) or real(job, *rest)
    )
    ranges = {"lightgbm": {"num_leaves": {"choices": [3, 31]}}}
    session = search(folder, tmp_path, 6, ranges=ranges)
    assert len(finished(session.study)) == 6
    # Two settings, two folds, two symbols.
    assert len(computed) == 8


def test_a_trial_that_fails_is_told_and_the_search_goes_on(folder, tmp_path):
    session = search(folder, tmp_path, 7, model="ridge", ranges=LAGS)
    failed = [one for one in finished(session.study) if REASON in one.user_attrs]
    assert 0 < len(failed) < 7
    assert {tuple(one.user_attrs[SETTINGS]["lags"]) for one in failed} == {(0, 9)}
    assert all("lag 9 lies outside windows" in one.user_attrs[REASON] for one in failed)
    assert all(one.value is None for one in failed)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"objective": "loss"}, "objective.name was 'rank_ic' and is 'loss'"),
        ({"share": 0.3}, "holdout.share was 0.2 and is 0.3"),
        ({"changes": {"seeds": [5]}}, r"seeds.all was \[1, 2\] and is \[5\]"),
        (
            {"ranges": {"lightgbm": {"num_leaves": {"min": 2, "max": 9}}}},
            "ranges.learning_rate was .* and is None; ranges.num_leaves was .* 'max': 9",
        ),
    ],
)
def test_a_study_of_something_else_is_refused(done, folder, others, said):
    with pytest.raises(ConfigError, match=said):
        open_session(asked(folder, done.asked.out, **others))


def test_without_ranges_a_study_keeps_its_own(done, folder):
    wanted = asked(folder, done.asked.out)
    session = open_session(type(wanted)(wanted.experiment, "lightgbm", wanted.out))
    assert session.ranges == done.ranges
    assert session.cut == done.cut


def test_a_study_that_is_not_there_is_not_made_to_choose_from(folder, tmp_path):
    with pytest.raises(ConfigError, match="no study 'lightgbm' to choose from"):
        open_session(asked(folder, tmp_path), may_create=False)


@pytest.mark.parametrize("objective", ["loss", "sharpe"])
def test_other_objectives_rank_trials_too(folder, tmp_path, objective):
    session = search(folder, tmp_path, 2, objective=objective)
    values = [one.value for one in completed(session.study)]
    assert len(values) == 2
    assert np.isfinite(values).all()
    if objective == "loss":
        # Hardly better than the forecast zero, whose error is 1.
        assert all(-1.3 < value < -0.7 for value in values)


@pytest.mark.parametrize("sampler", ["gp", "random", "grid"])
def test_other_samplers_search_too(folder, tmp_path, sampler):
    session = search(folder, tmp_path, 3, how=Search(sampler=sampler))
    assert len(finished(session.study)) == 3


def test_a_grid_ends_when_it_is_done(folder, tmp_path):
    ranges = {"lightgbm": {"num_leaves": {"choices": [2, 3]}}}
    session = search(folder, tmp_path, 9, ranges=ranges, how=Search(sampler="grid"))
    # The defaults, and each value once.
    found = [settings["num_leaves"] for _, _, settings in tried(session)]
    assert found[0] == 31
    assert sorted(found[1:]) == [2, 3]


def test_a_bad_trial_ends_early_and_the_defaults_never(tmp_path):
    # Of four instances, all worse, the test first says so.
    folder = write_candles(tmp_path / "data", "ABC", signal=True)
    ranges = {"lightgbm": {"min_child_samples": {"choices": [20, 100000]}}}
    session = search(
        folder, tmp_path / "out", 6, ranges=ranges, how=Search("random", pruner="wilcoxon")
    )
    by_value = {True: [], False: []}
    for one in finished(session.study):
        is_bad = one.user_attrs[SETTINGS]["min_child_samples"] == 100000
        by_value[is_bad].append(one.state)
    states = optuna.trial.TrialState
    assert set(by_value[False]) == {states.COMPLETE}
    assert set(by_value[True]) == {states.PRUNED}


def begin(session, process=None):
    """Begin a trial as another worker does: the parent of this process, or one that is named."""
    with warnings.catch_warnings():
        # A heartbeat goes with a search, which there is none of here.
        warnings.simplefilter("ignore", UserWarning)
        trial = session.study.ask()
    trial.set_user_attr(WORKER, [socket.gethostname(), process or os.getppid()])
    return trial


@pytest.mark.parametrize("kept_default", [True, False])
def test_what_a_dead_worker_left_is_done_by_another(folder, tmp_path, kept_default):
    session = open_session(asked(folder, tmp_path))
    if kept_default:
        session.study.enqueue_trial({"learning_rate": 0.05}, user_attrs={"defaults": True})
    begin(session, dead_process())
    search(folder, tmp_path, 3)
    trials = session.study.get_trials()
    assert trials[0].state == optuna.trial.TrialState.FAIL
    # What the dead worker was at is tried first, and under another number.
    assert trials[1].system_attrs["retry_history"] == [0]
    assert [one.number for one in finished(session.study)] == [1, 2, 3]
    defaults = [one for one in finished(session.study) if one.user_attrs.get("defaults")]
    assert len(defaults) == 1


def test_a_worker_waits_for_the_last_trial_of_another(folder, tmp_path):
    session = search(folder, tmp_path, 2)
    other = begin(session)
    begun = time.monotonic()

    def tell_late():
        time.sleep(1.0)
        session.study.tell(other.number, 0.5)

    thread = threading.Thread(target=tell_late)
    thread.start()
    search(folder, tmp_path, 3)
    assert time.monotonic() - begun > 1.0
    thread.join()
    assert len(session.study.get_trials()) == 3


def test_a_worker_that_comes_too_late_withdraws(folder, tmp_path, monkeypatch):
    session = search(folder, tmp_path, 2)
    counts = iter([(2, 0)])
    real = study_module._Worker.count

    def late(self, below=None):
        # As if another worker had taken the last trial after this one counted.
        if below is None and (first := next(counts, None)):
            other = begin(session)
            threading.Timer(0.7, lambda: session.study.tell(other.number, 0.5)).start()
            return first
        return real(self, below)

    monkeypatch.setattr(study_module._Worker, "count", late)
    search(folder, tmp_path, 3)
    assert [one.number for one in finished(session.study)] == [0, 1, 2]
    withdrawn = session.study.get_trials()[3]
    assert withdrawn.state == optuna.trial.TrialState.FAIL
    assert SETTINGS not in withdrawn.user_attrs


def test_an_interrupted_trial_is_queued_again(done, folder, tmp_path, monkeypatch):
    real, calls = study_module.evaluate, []

    def interrupted(*arguments, **others):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **others)

    monkeypatch.setattr(study_module, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(folder, tmp_path)
    monkeypatch.undo()
    session = search(folder, tmp_path)
    assert [one.number for one in finished(session.study)] == [0, 1, 3, 4]
    # The settings that were interrupted are tried, and none is lost.
    assert tried(session)[2][1:] == tried(done)[2][1:]


def test_a_file_in_place_of_the_folder_is_said(folder, tmp_path):
    wanted = asked(folder, tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        open_session(type(wanted)(wanted.experiment, "lightgbm", tmp_path / "file"))


def test_a_study_lies_beside_its_results(done):
    assert default_url(done.asked.out) == f"sqlite:///{done.asked.out}/study.db"
    assert (done.asked.out / "study.db").is_file()
    assert done.study.user_attrs[BELONGS]["ranges"]["num_leaves"] == {"min": 2, "max": 8, "step": 1}


def test_a_journal_is_used_when_asked_for(done, folder, tmp_path):
    session = search(folder, tmp_path, storage=f"journal:{tmp_path / 'journal.log'}")
    assert tried(session) == tried(done)
    assert not (tmp_path / "study.db").exists()
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(DataError, match="cannot be opened"):
        open_storage(f"journal:{path / 'journal.log'}")


def test_trainings_that_nobody_does_any_more_are_no_failed_trial(folder, tmp_path, monkeypatch):
    def lost(jobs, *_, **__):
        if calls:
            raise TrainingError("the dask scheduler is lost")
        calls.append(jobs)
        return [jobs_module.run_job(job, tmp_path / "search") for job in jobs]

    calls = []
    monkeypatch.setattr(objective_module, "run_jobs", lost)
    with pytest.raises(WorkersLostError, match="the dask scheduler is lost"):
        search(folder, tmp_path, 3, runner=Runner(2))
    session = open_session(asked(folder, tmp_path))
    assert [one.number for one in finished(session.study)] == [0]
    states = [one.state.name for one in session.study.get_trials()]
    assert states == ["COMPLETE", "FAIL", "WAITING"]


def test_a_cut_last_line_of_a_journal_is_set_aside(folder, tmp_path, caplog):
    path = tmp_path / "journal.log"
    before = tried(search(folder, tmp_path, 2, storage=f"journal:{path}"))
    with path.open("ab") as stream:
        stream.write(b'{"op_code":5,"work')
    again = search(folder, tmp_path, 3, storage=f"journal:{path}")
    assert tried(again)[:2] == before
    assert len(tried(again)) == 3
    assert "ended in the middle of a line" in caplog.text
    assert [one.read_bytes() for one in tmp_path.glob("journal.log.cut-*")] == [
        b'{"op_code":5,"work'
    ]


def test_batches_larger_than_the_data_are_legal(folder, tmp_path):
    net = {"hidden_size": 4, "num_layers": 1, "max_epochs": 1}
    session = search(
        folder,
        tmp_path,
        2,
        model="lstm",
        ranges={"lstm": {"batch_size": {"min": 4096.0, "max": 8192.0, "step": 4096}}},
        changes={"models": {"lstm": net}, "seeds": [1]},
    )
    assert len(completed(session.study)) == 2


def test_five_failures_at_the_start_end_the_search_with_the_reason(folder, tmp_path, monkeypatch):
    def broken(*_):
        raise TrainingError("the loss is not finite")

    monkeypatch.setattr(jobs_module, "save_model", broken)
    with pytest.raises(TrainingError, match=r"first 5 trials all failed.*not finite") as caught:
        search(folder, tmp_path, 9)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_no_failed_trial(done, folder, tmp_path, monkeypatch):
    def full(model, path):
        if len(find_entries(tmp_path / "search")) == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(model, path)

    real = jobs_module.save_model
    monkeypatch.setattr(jobs_module, "save_model", full)
    with pytest.raises(UnwritableError, match=r"No space left.*: make room, and run it") as caught:
        search(folder, tmp_path, 2)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    # The second trial was half done, and nothing of it is lost.
    session = search(folder, tmp_path, 2)
    assert [one.number for one in finished(session.study)] == [0, 2]
    assert [one[1:] for one in tried(session)][:2] == [one[1:] for one in tried(done)][:2]


def test_a_study_that_cannot_be_written_is_one_line_and_goes_on(folder, tmp_path, monkeypatch):
    event, pool = pytest.importorskip("sqlalchemy.event"), pytest.importorskip("sqlalchemy.pool")
    real, full = study_module.evaluate, []

    def limit(connection, *_):
        connection.execute(f"PRAGMA query_only = {len(full)}")

    def filling(*arguments, **others):
        full.extend([1] * (len(find_entries(tmp_path / "search")) >= 4))
        return real(*arguments, **others)

    monkeypatch.setattr(study_module, "evaluate", filling)
    event.listen(pool.Pool, "checkout", limit)
    try:
        with pytest.raises(UnwritableError, match=r"written \(attempt to write a rea") as caught:
            search(folder, tmp_path, 2)
        full.clear()
        monkeypatch.undo()
        session = search(folder, tmp_path, 2)
    finally:
        event.remove(pool.Pool, "checkout", limit)
    assert "\n" not in str(caught.value)
    assert [one.state.name for one in session.study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert session.study.trials[2].system_attrs["retry_history"] == [1]


def test_a_stop_that_the_study_cannot_be_told_is_a_stop(folder, tmp_path, monkeypatch):
    def stopped(*_, **__):
        monkeypatch.setattr(backend, "set_trial_state_values", gone)
        raise KeyboardInterrupt

    def gone(*_, **__):
        raise optuna.exceptions.StorageInternalError("gone")

    backend = optuna.storages.RDBStorage
    monkeypatch.setattr(study_module, "evaluate", stopped)
    with pytest.raises(KeyboardInterrupt):
        search(folder, tmp_path)
    monkeypatch.undo()
    session = search(folder, tmp_path, 2)
    assert [one.number for one in finished(session.study)] == [1, 2]
    assert finished(session.study)[0].user_attrs["defaults"]


def test_fewer_rows_than_a_fold_needs_are_said(folder, tmp_path):
    changes = {"split": {"folds": 9, "test_bars": 40}}
    with pytest.raises(DataError, match="336") as caught:
        open_session(asked(folder, tmp_path, changes=changes))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "search" / "models").exists()


def test_how_an_ensemble_combines_is_searched_and_its_members_stay(folder, tmp_path):
    members = {"ridge": {}, "lightgbm": {**TREES, "num_leaves": 4}}
    session = search(
        folder,
        tmp_path,
        2,
        how=Search("grid"),
        model="both",
        ranges={"ensemble": {"combine": {"choices": ["mean", "stack"]}, "folds": {"value": 2}}},
        changes={"seeds": [1], "models": {"both": {"kind": "ensemble", "members": members}}},
    )
    # The default is one of both.
    assert [settings for _, _, settings in tried(session)] == [
        {"combine": "stack", "folds": 3},
        {"combine": "mean", "folds": 2},
    ]
    scores = {value for _, value, _ in tried(session)}
    assert len(scores) == 2
    for entry in list_entries(session.task.started.out):
        assert entry.metadata["settings"]["members"] == members
        assert set(entry.metadata["ensemble"]["weights"]) == set(members)


def test_members_are_searched_by_themselves(folder, tmp_path):
    changes = {"models": {"ensemble": {"members": {"ridge": {}}}}}
    with pytest.raises(ConfigError, match="members is not tuned: search each member by itself"):
        open_session(
            asked(
                folder,
                tmp_path,
                model="ensemble",
                ranges={"ensemble": {"members": {"choices": [{}, {}]}}},
                changes=changes,
            )
        )


def test_ranges_are_checked_before_anything_is_made(folder, tmp_path):
    wrong = {"lightgbm": {"num_leafs": {"min": 2, "max": 8}}}
    with pytest.raises(ConfigError, match="Did you mean 'num_leaves'"):
        open_session(asked(folder, tmp_path, ranges=wrong))
    assert not (tmp_path / "study.db").exists()
    assert RANGES["lightgbm"]["num_leaves"]["max"] == 8
