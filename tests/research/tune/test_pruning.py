"""Trials that end early: which, why, and what is left of them."""

from __future__ import annotations

import pytest

from freqai_lstm_plugins.errors import ConfigError, StoppedError
from freqai_lstm_plugins.research.jobs import is_done, run_job
from freqai_lstm_plugins.research.tune import choice as choice_module
from freqai_lstm_plugins.research.tune.objective import Runner, Watch, evaluate
from freqai_lstm_plugins.research.tune.page import trial_table
from freqai_lstm_plugins.research.tune.search import (
    MOST_PASSES,
    Search,
    make_pruner,
    require_watchable,
    watch_trial,
)
from freqai_lstm_plugins.research.tune.session import open_session
from freqai_lstm_plugins.research.tune.study import SETTINGS, completed, finished

from .studies import asked, search, write_candles

optuna = pytest.importorskip("optuna")
for needed in ("arch", "purgedcv", "joblib", "lightgbm", "plotly"):
    pytest.importorskip(needed)

STATES = optuna.trial.TrialState
# With the second rate nothing is learned in so few trees.
RATES = {"lightgbm": {"lr": {"choices": [0.1, 0.00001]}, "num_leaves": {"min": 2, "max": 8}}}
FOREST = {"lightgbm": {"n_estimators": 32, "early_stopping_rounds": 0}}
MEDIAN = Search("random", "median")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_candles(tmp_path_factory.mktemp("candles"), signal=True)


@pytest.fixture(scope="module")
def pruned(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return search(folder, out, 14, ranges=RATES, changes={"models": FOREST}, how=MEDIAN)


def states(session):
    return [(one.state, one.value, one.user_attrs[SETTINGS]) for one in finished(session.study)]


def test_a_training_that_learns_less_than_the_median_ends_its_trial(pruned):
    found = finished(pruned.study)
    assert len(found) == 14
    ended = [one for one in found if one.state == STATES.PRUNED]
    # Optuna looks at five trials before it judges any.
    judged = [one for one in found if one.number > 5]
    slow = [one for one in judged if one.user_attrs[SETTINGS]["learning_rate"] == 0.00001]
    assert slow
    assert {one.state for one in slow} == {STATES.PRUNED}
    # In the first training, so that all others are spared.
    assert all(max(one.intermediate_values) < MOST_PASSES for one in slow)
    assert {one.user_attrs[SETTINGS]["learning_rate"] for one in ended} >= {0.00001}
    whole = [one for one in found if one.state == STATES.COMPLETE]
    assert all(len({step // MOST_PASSES for step in one.intermediate_values}) == 4 for one in whole)


def test_losses_are_told_after_passes_of_powers_of_two(pruned):
    steps = [step for step in finished(pruned.study)[0].intermediate_values if step < MOST_PASSES]
    assert sorted(steps) == [1, 2, 4, 8, 16, 32]


def test_the_defaults_are_never_ended(pruned):
    assert finished(pruned.study)[0].state == STATES.COMPLETE


class Doomed:
    """A trial that any pruner would end."""

    number = 9

    def report(self, figure, step):
        self.told = figure, step

    def should_prune(self):
        return True


@pytest.mark.parametrize("pruner", ["median", "wilcoxon"])
def test_the_defaults_go_on_where_any_other_trial_ends(pruned, pruner):
    def look_on(is_default):
        trial = Doomed()
        watch = watch_trial(trial, pruned.task, Search(pruner=pruner), is_default=is_default)
        if pruner == "median":
            watch.on_pass(0, 4, 0.5)
        else:
            watch.on_instance(1, 0.5)
        return trial.told

    # Told all the same, for others are compared with them.
    assert look_on(True) == ((-0.5, 4) if pruner == "median" else (0.5, 1))
    with pytest.raises(StoppedError, match="worse than those before"):
        look_on(False)


def test_a_trial_that_was_ended_has_no_score_in_the_table(pruned):
    table = trial_table(pruned.study)
    is_ended = table["state"] == "pruned"
    assert 0 < is_ended.sum() < len(table)
    # Optuna keeps the last figure of such a trial as its value.
    assert all(one.value is not None for one in finished(pruned.study))
    assert table["score"].isna().tolist() == is_ended.tolist()


def test_a_trial_that_was_ended_is_no_candidate(pruned):
    assert {one.state for one in completed(pruned.study)} == {STATES.COMPLETE}
    numbers = {one.number for one in choice_module._best(pruned.study)}
    assert numbers <= {one.number for one in completed(pruned.study)}


def test_an_interrupted_search_with_a_pruner_goes_on_as_if_it_had_not_been(
    pruned, folder, tmp_path
):
    others = {"ranges": RATES, "changes": {"models": FOREST}, "how": MEDIAN}
    search(folder, tmp_path, 7, **others)
    assert states(search(folder, tmp_path, 14, **others)) == states(pruned)


def test_a_study_keeps_its_pruner(pruned, folder):
    others = {"ranges": RATES, "changes": {"models": FOREST}}
    with pytest.raises(ConfigError, match=r"watched by --pruner median.*go on with median"):
        search(folder, pruned.asked.out, 15, how=Search("random", "wilcoxon"), **others)
    search(folder, pruned.asked.out, 14, how=Search("random"), **others)


def test_what_was_trained_before_tells_its_losses_again(pruned):
    task, seen = pruned.task, []
    watch = Watch(on_pass=lambda *told: seen.append(told))
    evaluate(task, {}, task.experiment.seeds, runner=Runner(), watch=watch)
    again = []
    watch = Watch(on_pass=lambda *told: again.append(told))
    evaluate(task, {}, task.experiment.seeds, runner=Runner(), watch=watch)
    assert again == seen
    assert [(training, number) for training, number, _ in seen] == [
        (training, number) for training in range(4) for number in range(1, 33)
    ]


def test_a_job_that_was_ended_leaves_nothing(folder, tmp_path):
    session = open_session(asked(folder, tmp_path))
    job, out = session.task.base[0], session.task.started.out

    def stop(epoch):
        raise StoppedError("enough")

    with pytest.raises(StoppedError, match="enough"):
        run_job(job, out, on_epoch=stop)
    assert not is_done(job, out)
    assert not list(out.glob("models/**/*"))


def test_a_fold_with_calm_labels_does_not_save_the_trial_in_the_next():
    study = optuna.create_study(direction="maximize", pruner=make_pruner(MEDIAN))
    for _ in range(5):
        trial = study.ask()
        for step, figure in ((4, -0.1), (MOST_PASSES + 2, -0.9), (MOST_PASSES + 4, -0.9)):
            trial.report(figure, step)
        study.tell(trial, -0.5)
    trial = study.ask()
    trial.report(-0.1, 4)
    assert not trial.should_prune()
    # The first passes of a training are not judged.
    trial.report(-1.5, MOST_PASSES + 2)
    assert not trial.should_prune()
    trial.report(-1.5, MOST_PASSES + 4)
    # By Optuna's own rule the trial's best figure, that of the first training, would have counted.
    assert trial.should_prune()


@pytest.mark.parametrize(
    ("ranges", "runner", "said"),
    [
        ({"lightgbm": {"loss": {"choices": ["mse", "mae"]}}}, Runner(), "loss has a range"),
        (RATES, Runner(2), "leave --workers and --dask out"),
        (RATES, Runner(1, "tcp://127.0.0.1:1"), "leave --workers and --dask out"),
    ],
)
def test_losses_that_nobody_can_compare_or_see_are_said(folder, tmp_path, ranges, runner, said):
    session = open_session(asked(folder, tmp_path, ranges=ranges))
    with pytest.raises(ConfigError, match=said):
        require_watchable(MEDIAN, "lightgbm", session.ranges, runner)
    require_watchable(Search(pruner="wilcoxon"), "lightgbm", session.ranges, runner)


def test_passes_of_several_members_are_not_compared():
    with pytest.raises(ConfigError, match="an ensemble has one a member and fold"):
        require_watchable(MEDIAN, "ensemble", {}, Runner())
    require_watchable(Search(pruner="wilcoxon"), "ensemble", {}, Runner())
