"""README is held to the code: settings, commands, files of the tree."""

import re
from pathlib import Path

import pytest

from loghaul import config
from loghaul_ingest.cli import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def section(title):
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


def table_of_settings():
    """The rows as README has to show them."""
    for name, spec in config.NAMES.items():
        default = spec.metadata["default"] or "-"
        yield f"| `{name}` | `{config.variable(name)}` | {default} | {spec.metadata['help']} |"


def test_every_setting_stands_in_the_table_as_the_code_has_it():
    rows = [row for row in section("Settings").splitlines() if row.startswith("| `")]

    assert rows == list(table_of_settings())


def test_every_file_of_the_tree_exists():
    root = None
    for line in section("How it works").partition("### The tree")[2].splitlines():
        names = re.match(r"    (\s*)([\w./]+(?: [\w./]+)*)  ", line + "  ")
        if not names:
            continue
        if not names[1]:
            root = ROOT / names[2]
            assert root.is_dir(), root
            continue
        for name in names[2].split():
            assert (root / name).exists(), f"{root / name} stands in README's tree"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_stands_in_readme(name):
    assert f"loghaul {name}" in README


def test_every_command_of_readme_exists():
    named = {
        line.split()[1]
        for line in README.splitlines()
        if line.startswith("    loghaul ") and len(line.split()) > 1
    }

    assert named <= set(COMMANDS)


if __name__ == "__main__":
    print("| setting | variable | default | meaning |\n|---|---|---|---|")
    print("\n".join(table_of_settings()))
