"""The doctor looks into every run database, and one without a byte is not a sound one."""

from loghaul_ingest import doctor


def test_a_run_database_of_no_bytes_is_wrong_and_an_empty_catalog_is_not(tmp_path):
    (tmp_path / "runs").mkdir()
    run, catalog = tmp_path / "runs" / "run.db", tmp_path / "catalog.db"
    run.touch()
    catalog.touch()

    (finding,) = doctor._databases(tmp_path)

    assert finding.state == doctor.WRONG
    assert str(run) in finding.text and "empty" in finding.text
