from __future__ import annotations

from pathlib import Path

import pytest

from freqai_lstm_plugins.errors import UserDirError
from freqai_lstm_plugins.install import install, template_files

REPO = Path(__file__).parents[1]


def states(files):
    return {file.path.name: file.state for file in files}


def test_every_file_is_written_into_a_directory_that_did_not_exist(tmp_path):
    files = install(tmp_path / "new" / "user_data")
    assert set(states(files)) == {
        "LeaLSTMRegressor.py",
        "LeaGRURegressor.py",
        "LeaALSTMRegressor.py",
        "LeaTFTRegressor.py",
        "LeaLSTMClassifier.py",
        "LeaGRUClassifier.py",
        "LeaFreqAIStrategy.py",
        "config-lea.json",
    }
    for (source, _), file in zip(template_files(), files, strict=True):
        assert file.path.read_text() == source.read_text()


def test_a_second_run_changes_nothing(tmp_path):
    install(tmp_path)
    assert set(states(install(tmp_path)).values()) == {"up to date"}


def test_a_changed_file_is_kept(tmp_path):
    install(tmp_path)
    strategy = tmp_path / "strategies" / "LeaFreqAIStrategy.py"
    strategy.write_text("# mine\n")
    files = install(tmp_path)
    assert states(files)["LeaFreqAIStrategy.py"] == "changed by you, kept"
    assert strategy.read_text() == "# mine\n"


def test_force_replaces_a_changed_file_and_loses_none_of_its_versions(tmp_path):
    install(tmp_path)
    strategy = tmp_path / "strategies" / "LeaFreqAIStrategy.py"
    for text in ("# first\n", "# second\n"):
        strategy.write_text(text)
        install(tmp_path, force=True)
        assert "class LeaFreqAIStrategy(" in strategy.read_text()
    assert strategy.with_name("LeaFreqAIStrategy.py.bak").read_text() == "# first\n"
    assert strategy.with_name("LeaFreqAIStrategy.py.bak1").read_text() == "# second\n"


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserDirError, match=r"Cannot write to the user directory .*file/user_data"):
        install(tmp_path / "file" / "user_data")


def test_a_link_that_leads_out_of_the_directory_is_refused_and_followed_nowhere(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    userdir = tmp_path / "user_data"
    userdir.mkdir()
    (userdir / "strategies").symlink_to(outside)
    with pytest.raises(UserDirError, match="leads out of the user directory"):
        install(userdir)
    assert list(outside.iterdir()) == []
    # Nothing was written before the refusal either.
    assert [path.name for path in userdir.iterdir()] == ["strategies"]


def test_the_repositorys_own_user_directory_is_the_same_source():
    for source, place in template_files():
        name = place.replace("config-lea", "config")
        assert (REPO / "user_data" / name).resolve() == source.resolve()
