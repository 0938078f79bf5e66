"""Settings: which source wins, what a value may look like, and what becomes of a wrong one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from loghaul import places
from loghaul.config import NAMES, load, variable
from loghaul.errors import SettingsError


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("LOGHAUL_", "SLURM_", "OMPI_", "PMI")) or name in ("RANK",):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


def test_without_any_setting_everything_lies_in_the_users_data_folder(tmp_path: Path) -> None:
    settings = load()
    home = tmp_path / "data" / "loghaul"
    assert (settings.home, settings.spool) == (home, home / "spool")
    assert settings.store == f"sqlite://{home}/store"
    assert settings.node == os.uname().nodename
    assert (settings.run_id, settings.rank, settings.problems) == (None, None, ())


def test_an_argument_beats_the_environment_which_beats_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "loghaul.toml").write_text('experiment = "file"\nnode = "file"\nrun_id = "file"\n')
    monkeypatch.setenv("LOGHAUL_EXPERIMENT", "environment")
    monkeypatch.setenv("LOGHAUL_NODE", "environment")
    settings = load(experiment="argument")
    assert settings.experiment == "argument"
    assert settings.node == "environment"
    assert settings.run_id == "file"
    assert settings.origins["run_id"] == str(tmp_path / "loghaul.toml")


def test_the_section_of_a_pyproject_is_found_from_a_folder_below(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.loghaul]\nexperiment = "alphas"\ntags = {team = "a"}\n[tool.loghaul.worker]\nx = 1\n'
    )
    below = tmp_path / "src" / "deep"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    settings = load()
    assert (settings.experiment, settings.tags, settings.problems) == ("alphas", {"team": "a"}, ())


def test_an_unknown_name_is_a_problem_with_a_suggestion_and_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOGHAUL_EXPERIMNET", "x")
    settings = load(experimnt="x")
    assert settings.experiment == "default"
    assert any("did you mean 'experiment'" in problem for problem in settings.problems)
    assert any("LOGHAUL_EXPERIMNET" in problem for problem in settings.problems)


def test_a_wrong_value_names_itself_its_source_and_what_is_valid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOGHAUL_SPOOL_FULL", "explode")
    with pytest.raises(SettingsError, match=r"spool_full = 'explode' from environment.*'refuse'"):
        load()
    settings = load(strict=False)
    assert settings.spool_full == "refuse"
    assert "explode" in settings.problems[0]


@pytest.mark.parametrize(
    ("word", "expected"),
    [("1GiB", 2**30), ("512M", 2**29), ("1.5k", 1536), ("4096", 4096), (17, 17)],
)
def test_a_size_may_have_a_unit(word: object, expected: int) -> None:
    assert load(spool_max_bytes=word).spool_max_bytes == expected


@pytest.mark.parametrize("word", ["", "many", "-1", "1.5.2G", True])
def test_a_size_that_is_none_is_refused(word: object) -> None:
    with pytest.raises(SettingsError):
        load(spool_max_bytes=word)


def test_retention_is_off_by_default_and_nothing_is_no_bound() -> None:
    assert (load().retention_days, load().retention_bytes) == (None, None)
    given = load(retention_days="90", retention_bytes="1TiB")
    assert (given.retention_days, given.retention_bytes) == (90, 2**40)
    for name in ("retention_days", "retention_bytes"):
        for value in ("0", "-1", "some"):
            with pytest.raises(SettingsError, match=name):
                load(**{name: value})


def test_tags_are_pairs_or_a_json_object() -> None:
    assert load(tags="a=1, b=x=y").tags == {"a": "1", "b": "x=y"}
    assert load(tags='{"a": 1}').tags == {"a": "1"}
    with pytest.raises(SettingsError):
        load(tags="novalue")


def test_a_child_process_gets_the_same_settings_from_its_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = load(home=tmp_path / "h", run_id="r", tags={"ü": "ö"}, buffered=True, attempt=2)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert load() == settings


def test_the_launchers_ranks_are_known_and_slurms_batch_script_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert load().rank is None
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert (load().rank, load().local_rank) == (3, 1)
    monkeypatch.setenv("RANK", "7")
    assert load().rank == 7


def test_the_first_try_of_a_launcher_is_no_attempt_and_its_restart_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert load().attempt is None
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert load().attempt == 2


def test_a_network_file_system_is_recognised_also_for_a_folder_that_is_not_there_yet(
    tmp_path: Path,
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda / ext4 rw 0 0\nserver:/x /mnt/home nfs4 rw 0 0\n")
    assert places.on_network(Path("/mnt/home/me/.local/loghaul"), str(mounts))
    assert not places.on_network(Path("/mnt/homely"), str(mounts))
    assert not places.on_network(Path("/mnt"), str(tmp_path / "none"))


def test_every_setting_has_a_help_text_and_a_variable() -> None:
    for name, spec in NAMES.items():
        assert spec.metadata["help"].endswith("."), name
        assert variable(name) == f"LOGHAUL_{name}".upper()


def test_an_unreadable_settings_file_is_left_out_and_told(tmp_path: Path) -> None:
    (tmp_path / "loghaul.toml").write_text("experiment = = 1")
    settings = load()
    assert settings.experiment == "default"
    assert "loghaul.toml cannot be read" in settings.problems[0]
