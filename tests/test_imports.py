"""The house: a module imports only what stands below it, and nothing optional."""

from __future__ import annotations

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import keras_inits

pytestmark = pytest.mark.any_keras

PACKAGE = Path(keras_inits.__file__).parent

# From the roof down. A module may import from any lower floor, never from its own:
# what shares a floor stands side by side. A folder is one room.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("commands",),
    ("demo",),
    ("__init__",),
    ("callbacks",),
    (
        *("verbs.initialize", "verbs.lsuv", "verbs.measure", "verbs.portable"),
        *("verbs", "porting"),
    ),
    # what the verbs share
    ("recording", "solving"),
    ("passes",),
    ("backward", "sweep"),
    ("calling", "weights"),
    ("data",),
    ("structure",),
    ("linear_maps",),
    # a report, with no Keras model in sight
    ("report",),
    ("findings", "plotting", "rendering"),
    ("histograms",),
    ("records",),
    ("plain_record",),
    # laws and numbers
    ("initializers",),
    ("fans", "gains", "registry"),
    ("distribution", "statistics"),
    ("backends",),
    ("errors",),
)
HEIGHT = {room: -floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# All that may be loaded by `import keras_inits` itself; the rest is imported where it
# is used.
AT_IMPORT = {"keras", "keras_inits", "numpy", "rich", *sys.stdlib_module_names}


def modules() -> dict[str, Path]:
    """Dotted name below the package -> file."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def room_of(module: str) -> str:
    """The floor plan's name for a module: its first part; each verb is a room."""
    first, *rest = module.removesuffix(".__init__").split(".")
    return f"{first}.{rest[0]}" if first == "verbs" and rest else first


def is_type_checking(node: ast.AST) -> bool:
    """`if TYPE_CHECKING:`, whose imports never run."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def running_nodes(node: ast.AST, into_functions: bool) -> Iterator[ast.AST]:
    """All nodes that run, with or without the bodies of functions."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            continue
        if isinstance(child, functions) and not into_functions:
            continue
        yield child
        yield from running_nodes(child, into_functions)


def imported_names(
    module: str, source: str, into_functions: bool = True
) -> Iterator[str]:
    """Absolute dotted names of what a module of keras_inits imports."""
    package = ["keras_inits", *module.split(".")[:-1]]
    for node in running_nodes(ast.parse(source), into_functions):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # `from keras_inits import fans` names a room, not a member of the root.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def rooms_imported(module: str, source: str) -> set[str]:
    """Rooms of the house that a module reaches for."""
    rooms = set()
    for name in imported_names(module, source):
        first, *rest = name.split(".")
        if first == "keras_inits":
            known = bool(rest) and rest[0] in HEIGHT
            rooms.add(room_of(".".join(rest)) if known else "__init__")
    return rooms - {room_of(module)}


def upward_imports(module: str, source: str) -> list[str]:
    """Rooms imported by a module that do not stand below it."""
    height = HEIGHT[room_of(module)]
    return sorted(r for r in rooms_imported(module, source) if HEIGHT[r] >= height)


def test_every_module_has_its_place_in_the_house() -> None:
    """A new file belongs on one of the floors: say on which, in FLOORS."""
    assert set() == {room_of(module) for module in modules()} - set(HEIGHT)


@pytest.mark.parametrize("module", modules())
def test_imports_point_down_only(module: str) -> None:
    assert [] == upward_imports(module, modules()[module].read_text("utf-8"))


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("fans", "from keras_inits.verbs.lsuv import lsuv_init", ["verbs.lsuv"]),
        ("fans", "from .verbs.lsuv import lsuv_init", ["verbs.lsuv"]),
        ("fans", "from keras_inits import verbs", ["verbs"]),
        ("fans", "import keras_inits", ["__init__"]),
        ("fans", "from keras_inits import lsuv_init", ["__init__"]),
        ("fans", "def f():\n    import keras_inits.sweep", ["sweep"]),
        ("fans", "from keras_inits.gains import gain", ["gains"]),
        (
            "verbs.lsuv",
            "from keras_inits.verbs.measure import measure",
            ["verbs.measure"],
        ),
        ("linear_maps.dense", "from ..sweep import sweep", ["sweep"]),
        ("linear_maps.dense", "from .base import LinearMap", []),
        ("verbs.lsuv", "from keras_inits import sweep, errors", []),
        ("fans", "if TYPE_CHECKING:\n    from .lsuv import lsuv_init", []),
    ],
)
def test_an_import_that_points_up_is_seen(
    module: str, source: str, expected: list[str]
) -> None:
    assert expected == upward_imports(module, source)


@pytest.mark.parametrize("module", [m for m in modules() if "__init__" in m])
def test_a_folder_says_what_each_of_its_modules_is_for(module: str) -> None:
    """In a table at its top, where it has one."""
    path = modules()[module]
    said = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    if "| module |" in said:
        others = {other.stem for other in path.parent.glob("*.py")} - {"__init__"}
        assert set() == {name for name in others if f"`{name}`" not in said}


def neighbours_imported(module: str, source: str) -> set[str]:
    """Modules of the same room that a module reaches for."""
    room = room_of(module)
    names = {
        name.removeprefix("keras_inits.") for name in imported_names(module, source)
    }
    found = {m for m in modules() for n in names if f"{n}.".startswith(f"{m}.")}
    inside = {m for m in found if m.startswith(f"{room}.")}
    for name in names:  # the room itself, or what its `__init__` holds
        if name == room or name.rpartition(".")[0] == room:
            inside |= {f"{room}.__init__"} if name not in modules() else set()
    return inside - {module}


@pytest.mark.parametrize("room", sorted({room_of(m) for m in modules() if "." in m}))
def test_no_circle_within_a_room(room: str) -> None:
    files = {m: p for m, p in modules().items() if room_of(m) == room}
    graph = {m: neighbours_imported(m, p.read_text()) for m, p in files.items()}
    assert set(files) == set(graphlib.TopologicalSorter(graph).static_order())


def test_a_neighbour_that_is_imported_is_seen() -> None:
    source = (
        "from keras_inits.passes import xla\nfrom keras_inits.passes.kinds import k"
    )
    expected = {"passes.xla", "passes.kinds"}
    assert expected == neighbours_imported("passes.compiled", source)
    source = "from keras_inits.passes import anything"
    assert {"passes.__init__"} == neighbours_imported("passes.compiled", source)


@pytest.mark.parametrize("module", modules())
def test_private_parts_of_keras_are_not_imported(module: str) -> None:
    source = modules()[module].read_text("utf-8")
    names = imported_names(module, source)
    assert [] == [n for n in names if n.startswith("keras.src")]
    attributes = {
        ast.unparse(n)
        for n in ast.walk(ast.parse(source))
        if isinstance(n, ast.Attribute)
    }
    assert [] == [n for n in attributes if n.startswith("keras.src")]


@pytest.mark.parametrize("module", modules())
def test_optional_dependencies_are_imported_where_they_are_used(module: str) -> None:
    source = modules()[module].read_text("utf-8")
    names = imported_names(module, source, into_functions=False)
    assert set() == {name.split(".")[0] for name in names} - AT_IMPORT


def test_importing_the_package_loads_nothing_beyond_what_keras_loads() -> None:
    program = (
        "import sys, keras, numpy; before = set(sys.modules); import keras_inits; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )
    assert set() == set(done.stdout.split()) - AT_IMPORT
