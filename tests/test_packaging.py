"""The wheel: built, installed into an empty environment, and used."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT))
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.timeout(300)
def test_the_wheel_holds_exactly_the_two_packages(wheel):
    sources = {
        str(path.relative_to(root))
        for root in (ROOT / "handlers", ROOT / "ingest")
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert sources == packed


@pytest.mark.timeout(300)
def test_the_installed_wheel_runs_a_command_and_finds_its_line(wheel, tmp_path):
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    bin_folder = tmp_path / "venv" / "bin"
    run(str(bin_folder / "pip"), "install", "-q", str(wheel))
    environment = {"LOGHAUL_HOME": str(tmp_path / "home"), "PATH": f"{bin_folder}:/usr/bin:/bin"}
    loghaul = str(bin_folder / "loghaul")

    run(loghaul, "run", "--run-id", "r", "--", "echo", "needle in hay", env=environment)
    found = run(loghaul, "search", "needle", env=environment)

    assert "needle in hay" in found
