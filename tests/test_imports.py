"""Who may import whom: each room knows the rooms below it, and no two modules need each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = ("collect", "configs", "launch", "rl", "wm")
# What each room may import, besides itself. `wm` alone is the package's own file: it makes the simulator when
# somebody asks for it.
FLOORS = {
    "configs": set(),
    "wm": {"wm.state"},
    "wm.sector": set(),
    "wm.store": {"wm.sector"},
    "wm.state": {"wm", "wm.sector", "wm.store"},
    "wm.cosmos": {"wm.cosmos.networks", "wm.cosmos.training", "wm.cosmos.sampling", "wm.cosmos.weights"},
    "wm.cosmos.networks": {"configs"},
    "wm.cosmos.training": {"wm.cosmos.networks", "wm.store", "configs"},
    "wm.cosmos.sampling": {"wm.cosmos.networks", "wm.cosmos.training"},
    "wm.cosmos.weights": {"wm.cosmos.networks", "wm.store", "configs"},
    "wm.cosmos.scope": {
        *("wm.cosmos.networks", "wm.cosmos.training", "wm.cosmos.sampling"),
        *("wm.sector", "wm.store", "configs"),
    },
    "collect": {"wm.sector", "wm.store"},
    "rl": {"wm.sector", "wm.store", "configs"},
    "launch": {"wm", "wm.sector", "wm.store", "wm.state", "collect", "rl", "configs"},
}
FLOORS["launch"] |= {name for name in FLOORS if name.startswith("wm.cosmos")}


def modules() -> dict[str, Path]:
    """The files of every module of the project, by dotted name."""
    paths = [path for name in PROJECT for path in sorted((ROOT / name).rglob("*.py"))]
    dotted = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    return {name.removesuffix(".__init__"): path for path, name in dotted.items()}


def room(module: str) -> str:
    """The room of FLOORS that a module lies in."""
    return max((name for name in FLOORS if f"{module}.".startswith(f"{name}.")), key=len)


def imports(path: Path, known: dict[str, Path], deferred: bool = True) -> Iterator[str]:
    """Modules of the project that a file imports; those inside functions only where `deferred`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if deferred else _on_import(tree)
    for node in nodes:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [member if member in known else node.module for member in members]
        yield from (name for name in names if name in known)


def _on_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported: all but the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from _on_import(node)


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of the graph, or nothing."""
    state: dict[str, bool] = {}  # False while a node's own imports are followed, then True

    def follow(node: str, path: list[str]) -> list[str]:
        state[node] = False
        for other in sorted(graph[node]):
            if state.get(other) is False:
                return [*path[path.index(other) :], other] if other in path else [node, other]
            if other not in state and (found := follow(other, [*path, other])):
                return found
        state[node] = True
        return []

    return next((found for node in graph if node not in state and (found := follow(node, [node]))), [])


@pytest.mark.parametrize("name", FLOORS)
def test_a_room_imports_only_what_lies_below_it(name):
    known = modules()
    wrong = [
        f"{module} imports {other}"
        for module, path in known.items()
        if room(module) == name
        for other in imports(path, known)
        if room(other) != name and room(other) not in FLOORS[name]
    ]
    assert wrong == []


def test_no_two_modules_need_each_other():
    known = modules()
    graph = {m: {o for o in imports(p, known, deferred=False) if o != m} for m, p in known.items()}
    assert circle(graph) == []


def test_every_module_has_a_room_and_the_graph_is_not_empty():
    known = modules()
    assert {room(module) for module in known} == set(FLOORS)
    assert "wm.sector.approach" in set(imports(known["wm.state.kinematics"], known))


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
