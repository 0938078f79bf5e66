"""Who may import whom, held by reading the source."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CLIENT = ROOT / "handlers" / "loghaul"
SERVER = ROOT / "ingest" / "loghaul_ingest"

#: Modules of the client that may use more than the standard library, and what.
OPTIONAL = {
    "formatter.py": {"pythonjsonlogger"},
    "*": {"aiokafka", "orjson", "structlog", "pythonjsonlogger"},  # inside functions only: lazily
}

#: Inside the server: what a part must never import (cli -> worker -> sources, stores, query).
FORBIDDEN = {
    "query": {"stores", "sources", "worker", "cli", "embedded"},
    "stores": {"sources", "worker", "cli", "embedded"},
    "sources": {"stores", "worker", "cli"},
    "feeds": {"stores", "worker", "cli", "embedded"},
    "words.py": {"stores", "sources", "query", "worker", "cli"},
    "block.py": {"stores", "sources", "query", "worker", "cli"},
    "assemble.py": {"sources", "worker", "cli", "query"},
}


def imports(path, *, top_level_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def modules(root):
    return sorted(path for path in root.rglob("*.py"))


@pytest.mark.parametrize("path", modules(CLIENT), ids=lambda path: str(path.relative_to(CLIENT)))
def test_the_client_uses_the_standard_library_alone(path):
    allowed = set(sys.stdlib_module_names) | {"loghaul"}

    top = {name.partition(".")[0] for name in imports(path, top_level_only=True)}
    everywhere = {name.partition(".")[0] for name in imports(path)}

    assert top - allowed <= OPTIONAL.get(path.name, set())
    assert everywhere - allowed <= OPTIONAL["*"]


@pytest.mark.parametrize("path", modules(SERVER), ids=lambda path: str(path.relative_to(SERVER)))
def test_the_server_imports_downwards_only(path):
    part = path.relative_to(SERVER).parts[0]

    found = {
        name.split(".")[1]
        for name in imports(path)
        if name.startswith("loghaul_ingest.") and len(name.split(".")) > 1
    }
    # The seam's types stand in stores/base.py and query/proposal.py and may be used anywhere.
    named = {
        name
        for name in imports(path)
        if name not in {"loghaul_ingest.stores.base", "loghaul_ingest.query.proposal"}
    }
    found &= {name.split(".")[1] for name in named if name.count(".")}

    assert not found & FORBIDDEN.get(part, set())


def test_each_source_root_holds_one_package():
    for root, package in ((ROOT / "handlers", "loghaul"), (ROOT / "ingest", "loghaul_ingest")):
        entries = {entry.name for entry in root.iterdir()} - {"__pycache__"}
        assert entries == {package}


def test_nobody_imports_a_source_root_as_a_package():
    for path in modules(ROOT / "tests") + modules(CLIENT) + modules(SERVER):
        for name in imports(path):
            assert not (name or "").startswith(("handlers", "ingest.")), f"{path} imports {name}"
