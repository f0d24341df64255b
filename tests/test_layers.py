"""Imports go only down, and each framework stays behind its one door."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "diffsde"

# From the top down: a module may import from its own line and from those below it.
LAYERS = [
    ["__main__"],
    ["cli", "sweeps"],
    ["composing"],
    ["completion", "help_text", "spelling", "sweep_table"],
    ["runs"],
    ["build", "checkpoints", "plots", "metrics"],
    ["training", "rails", "solver_error", "solver_remedies", "step_choice", "likelihood"],
    ["samplers", "objectives", "guidance", "inverse"],
    ["fields"],
    ["nets", "datasets", "optimizers", "loggers"],
    ["time_laws", "mixtures", "empirical", "predictions", "posterior_targets"],
    ["paths"],
    ["expressions", "types", "ensembles", "layouts", "overlap"],
    ["knobs"],
    ["errors", "memory", "terminal", "__init__"],
]
DOORS = {
    "hydra": {"cli.py", "sweeps.py", "composing.py", "spelling.py"},
    "omegaconf": {"cli.py", "sweeps.py", "composing.py", "sweep_table.py"},
    "orbax": {"checkpoints.py"},
    "flax": {"nets"},
    "diffrax": {"samplers"},
    "optax": {"optimizers.py", "training.py"},
    "matplotlib": {"plots", "runs", "sweep_table.py"},
    "rich": {"runs"},
    "tensorboardX": {"loggers"},
    "wandb": {"loggers"},
    "mlflow": {"loggers"},
    "sklearn": {"datasets"},
    "grain": {"datasets"},
    "PIL": {"datasets", "loggers", "inverse", "plots"},
    "scipy": {"metrics"},  # what is below would have every command wait for its import
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def level(name: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "diffsde" and len(parts) > 1 and parts[1] != "__version__":
            assert level(own) <= level(parts[1]), f"{path.name} imports {name} from above"


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
