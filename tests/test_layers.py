"""Imports go only down and never in a circle, each framework stays behind its doors, and one module alone holds state."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "diffsde"

# From the top down: a module may import from its own floor and from those below it.
FLOORS = [
    ["__main__", "__init__"],  # whose names of the API are imported when they are asked for
    ["api"],
    ["cli"],
    ["verbs"],
    ["report"],
    ["pictures"],
    ["evaluation"],
    ["runs"],
    ["build", "checkpoints", "plots", "metrics"],
    ["pairs_ahead"],
    [
        "training",
        "marginal_targets",
        "consecutive",
        "stability",
        "solver_error",
        "solver_remedies",
        "step_choice",
        "sampler_trials",
        "time_tuning",
        "likelihood",
    ],
    ["samplers", "objectives", "couplings", "guidance", "inverse"],
    ["processes"],
    ["datasets"],
    ["fields", "flow_maps", "continuous_flow", "discrete_flow", "interpolants", "learned_interpolant", "schroedinger"],
    ["nets", "optimizers", "loggers"],
    ["time_distributions", "mixtures", "empirical", "predictions", "preconditioning", "posterior_targets"],
    ["paths"],
    ["expressions", "types", "ensembles", "sharding", "overlap"],
    ["named_files"],
    ["knobs"],
    ["array_archives", "atomic_files", "extras", "nested", "plugins"],
    ["memory"],
    ["system_errors"],
    ["errors", "signals", "state", "terminal"],
]
DOORS = {
    "hydra": {"cli"},
    "omegaconf": {"cli"},
    "orbax": {"checkpoints.py"},
    "flax": {"nets"},
    "diffrax": {"samplers", "objectives"},
    "optax": {"optimizers.py", "training.py"},
    "matplotlib": {"plots", "pictures", "cli"},
    "rich": {"runs"},
    "portalocker": {"runs"},
    "pooch": {"datasets"},
    "tensorboardX": {"loggers"},
    "wandb": {"loggers"},
    "mlflow": {"loggers"},
    "sklearn": {"datasets"},
    "grain": {"datasets"},
    "PIL": {"datasets", "loggers", "plots"},
    "scipy": {"metrics", "couplings"},  # what is below would have every command wait for its import
}
STATE = "state.py"  # the one module that may hold what changes
CHANGE = {"append", "extend", "insert", "update", "setdefault", "pop", "popitem", "remove", "clear", "add", "discard"}
MUTABLE = ("list", "dict", "set", "defaultdict", "deque", "ExitStack", "Counter", "OrderedDict")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """diffsde.runs.folder for diffsde/runs/folder.py."""
    return ".".join(["diffsde", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


@cache
def imports(path: Path) -> tuple[str, ...]:
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(found)


def floor(name: str) -> int:
    return next(i for i, names in enumerate(FLOORS) if name in names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "diffsde" and len(parts) > 1 and parts[1] != "__version__":
            assert floor(own) <= floor(parts[1]), f"{path.name} imports {name} from above"


def circle(edges: dict[str, set[str]]) -> list[str]:
    """A path of imports that comes back to where it began; [] where there is none."""
    done: set[str] = set()

    def follow(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(edges[name]):
            if found := follow(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in edges if (found := follow(name, []))), [])


def test_no_module_imports_itself_by_others() -> None:
    """Nor inside a function, nor for its types: two modules that need each other are one, or three."""
    names = {name_of(path): path for path in modules()}
    edges = {}
    for name, path in names.items():
        found = {part for each in imports(path) for part in (each, each.rpartition(".")[0]) if part in names}
        edges[name] = {each for each in found if each != name and not name.startswith(f"{each}.")}
    assert circle(edges) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def changed(path: Path) -> list[str]:
    """What a module holds and changes: `global` names, lists, dicts and sets of its own that it changes or does not write as a
    constant.
    """
    tree, found = ast.parse(path.read_text()), []
    held: set[str] = set()
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = getattr(node, "value", None)
        made = isinstance(value, ast.Call) and getattr(value.func, "id", getattr(value.func, "attr", "")) in MUTABLE
        if made or isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
            held |= {target.id for target in targets if isinstance(target, ast.Name)}
    found += [name for name in held if not name.isupper() and not name.startswith("__")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            found += node.names
        where = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGE:
            where = node.func.value
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            where = node.value
        if isinstance(where, ast.Name) and where.id in held:
            found.append(where.id)
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_one_module_alone_holds_state(path: Path) -> None:
    if path.name != STATE:
        assert changed(path) == []


def test_state_is_found(tmp_path: Path) -> None:
    for text in (
        "seen = []",
        "SEEN = {}\ndef f():\n    SEEN[1] = 2",
        "X = 0\ndef f():\n    global X",
        "A = set()\nA.add(1)",
    ):
        (tmp_path / "module.py").write_text(text)
        assert changed(tmp_path / "module.py"), text


@pytest.mark.parametrize("framework", DOORS)
def test_frameworks_stay_behind_their_doors(framework: str) -> None:
    users = {p.relative_to(PACKAGE).parts[0] for p in modules() for n in imports(p) if n.split(".")[0] == framework}
    assert users <= DOORS[framework]


@pytest.mark.parametrize("path", sorted((PACKAGE / "loggers").glob("*.py")), ids=lambda path: path.name)
def test_loggers_import_their_libraries_late(path: Path) -> None:
    """They are extras: only the functions that need them import them."""
    top = ast.Module(
        [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
    )
    names = {alias.name for node in top.body if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in top.body if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in names} & {"tensorboardX", "wandb", "mlflow", "sqlalchemy", "alembic"}


def test_plots_know_no_jax_and_no_files() -> None:
    for path in (PACKAGE / "plots").glob("*.py"):
        assert not any(name.split(".")[0] in ("jax", "pathlib", "os") for name in imports(path)), path


def test_the_map_names_every_module() -> None:
    """ARCHITECTURE.md has a line for each, in its folder's list, and none that is gone."""
    text = (PACKAGE.parent / "ARCHITECTURE.md").read_text().partition("## A line a file")[2]
    sections = re.split(r"^\*\*`(?:diffsde/)?(\w*)/?`\*\*.*$", text, flags=re.M)
    listed = {
        f"{folder}/{name}" if folder else name
        for folder, lines in zip(sections[1::2], sections[2::2], strict=True)
        for name in re.findall(r"^- `(\w+\.py)` \S", lines, flags=re.M)
    }
    there = {str(path.relative_to(PACKAGE)) for path in modules() if not path.name.startswith("__")}
    assert listed == there
