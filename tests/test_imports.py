"""The rooms import one way only, and nothing heavy on the way."""

import ast
import pathlib

import pytest

import rejepa_jax

PACKAGE = pathlib.Path(rejepa_jax.__file__).parent
LAYERS = (
    {"types", "config", "presets", "rules", "resolve", "console", "processes", "joining"},
    {"storage"},
    {"artifacts"},
    {"data", "models"},
    {"methods"},
    {"retrieval"},
    {"training"},
    {"report", "serve", "planning"},
    {"stages"},
    {"main", "inspection"},
    {"verbs"},
    {"cli"},
)
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
MODULES = sorted(PACKAGE.rglob("*.py"))
# Only one optional feature each needs these: they are imported where they are used.
HEAVY = {
    *("tensorflow", "tensorflow_datasets", "torch", "scann", "tensorboardX", "umap"),
    *("faiss", "hnswlib", "lancedb", "pgvector", "psycopg", "pymilvus", "qdrant_client"),
}


def room(path):
    """The first part of a module's name inside the package."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(tree):
    """Every imported module with its node; names of `from x import y` may be modules too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def own_imports(path):
    for name, node in imported(ast.parse(path.read_text())):
        top, *rest = name.split(".")
        if top == "rejepa_jax" and rest and rest[0] != "__version__":
            yield rest[0], node.lineno


def at_module_level(tree):
    """The nodes that run when a module is imported: neither functions' bodies nor types alone."""
    for node in ast.iter_child_nodes(tree):
        is_type = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not (is_type or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            yield node
            yield from at_module_level(node)


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def test_every_module_belongs_to_a_layer():
    rooms = {room(path) for path in MODULES} - {"__init__"}
    assert rooms <= LAYER.keys()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path):
    here = room(path)
    for target, line in own_imports(path):
        assert target in LAYER, f"{name_of(path)}:{line} imports {target}, which has no layer"
        is_allowed = target == here or LAYER[target] <= LAYER.get(here, 0)
        assert is_allowed, f"{name_of(path)}:{line} imports {target} from {here}"


def test_data_and_models_do_not_know_each_other():
    crossings = {
        (room(path), target)
        for path in MODULES
        if room(path) in ("data", "models")
        for target, _ in own_imports(path)
    }
    assert not crossings & {("data", "models"), ("models", "data")}


def test_retrieval_does_not_know_a_trainer():
    for path in (PACKAGE / "retrieval").rglob("*.py"):
        assert "training" not in {target for target, _ in own_imports(path)}, name_of(path)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_heavy_is_imported_at_module_level(path):
    tree = ast.parse(path.read_text())
    running = set(map(id, at_module_level(tree)))
    for name, node in imported(tree):
        if id(node) in running:
            assert name.split(".")[0] not in HEAVY, f"{name_of(path)}:{node.lineno} imports {name}"
