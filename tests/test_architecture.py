"""How the package is built: what its modules may hold and import. Which package may import which is in
pyproject.toml ([tool.importlinter]) and checked by `make lint`."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "debiasdpo"
MODULES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "hydra_plugins").rglob("*.py")])
INITS = [module for module in MODULES if module.name == "__init__.py"]

# What may be imported inside a function: libraries that take long, and why they are not needed always.
HEAVY = {
    # seconds; only what runs a model needs them
    "torch", "transformers", "peft", "accelerate", "bitsandbytes", "safetensors", "gguf", "trl",
    "huggingface_hub",
    # tenths of a second; only one kind of input, output or printing needs them
    "pandas", "pyarrow", "openpyxl", "scipy", "matplotlib", "jinja2", "tqdm", "filelock",
    # extras, which need not be installed
    "wandb", "wandb_workspaces", "ray", "submitit", "joblib", "openai", "httpx2", "genai_prices",
    "liger_kernel",
    "hydra_plugins.hydra_joblib_launcher", "hydra_plugins.hydra_submitit_launcher",
    # `debiasdpo --help`, a report and a rater from Python start without them
    "hydra", "omegaconf",
}  # fmt: skip
# Modules of ours that import such a library when they are imported themselves.
OWN_HEAVY = {"debiasdpo.cluster.slurm", "debiasdpo.training.trl_engine"}
# Entry points, which import what a command needs once it is known.
ENTRIES = {"debiasdpo/cli.py", "debiasdpo/run.py", "debiasdpo/report/__main__.py"}
# Whatever a task rates, these work the same.
KNOW_NO_RUBRIC = (
    "storage", "cluster", "models", "packing", "raters", "jobs", "sweep", "tracking", "metrics",
)  # fmt: skip

LONGEST = 320  # lines of a module
TOP_LEVEL = 9  # modules beside the packages


def name_of(module: Path) -> str:
    return module.relative_to(ROOT).as_posix()


def imports(tree: ast.AST, in_function: bool = False) -> Iterator[tuple[str, bool, int]]:
    """Every module imported: its name, whether inside a function, and the line. Types' are left out."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name("TYPE_CHECKING")):
                continue
            case ast.Import(names):
                yield from ((alias.name, in_function, node.lineno) for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                for alias in names:
                    whole = f"{module}.{alias.name}"
                    file = ROOT / whole.replace(".", "/")
                    is_module = file.with_suffix(".py").exists() or file.is_dir()
                    yield whole if is_module else module, in_function, node.lineno
            case _:
                inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from imports(node, in_function or inside)


def is_heavy(name: str) -> bool:
    return any(name == library or name.startswith(f"{library}.") for library in HEAVY)


def test_imports_inside_functions_are_of_heavy_libraries() -> None:
    """None hides a circle, and none is forgotten where it belongs at the top."""
    found = []
    for module in MODULES:
        entry = name_of(module) in ENTRIES or module.name == "__init__.py"
        for name, in_function, line in imports(ast.parse(module.read_text())):
            ours = name.split(".")[0] == "debiasdpo"
            allowed = (entry or name in OWN_HEAVY) if ours else is_heavy(name)
            if in_function and not allowed:
                found.append(f"{name_of(module)}:{line} imports {name}")
    assert not found


@pytest.mark.parametrize("name", sorted(OWN_HEAVY))
def test_our_own_heavy_modules_are_heavy(name: str) -> None:
    tree = ast.parse((ROOT / f"{name.replace('.', '/')}.py").read_text())
    assert any(is_heavy(found) and not inside for found, inside, _ in imports(tree))


@pytest.mark.parametrize("module", INITS, ids=name_of)
def test_an_init_holds_no_logic(module: Path) -> None:
    """A docstring, imports, names and a version; the lazy `__getattr__` of PEP 562 in the package's."""
    tree = ast.parse(module.read_text())
    plugin = "hydra_plugins" in module.parts  # Hydra takes classes from there alone
    for number, node in enumerate(tree.body):
        match node:
            case ast.Expr(ast.Constant(str())) if number == 0:
                continue
            case ast.Import() | ast.ImportFrom():
                continue
            case ast.If(test=ast.Name("TYPE_CHECKING")):
                continue
            case ast.Assign(targets=[ast.Name("__all__" | "__version__")]):
                continue
            case ast.FunctionDef(name="__getattr__") if module == PACKAGE / "__init__.py":
                continue
            case ast.ClassDef() if plugin:
                continue
            case _:
                pytest.fail(f"{name_of(module)}:{node.lineno} holds {type(node).__name__}")


def test_few_modules_lie_beside_the_packages() -> None:
    modules = [module.name for module in PACKAGE.glob("*.py")]
    assert len(modules) <= TOP_LEVEL, modules


def test_modules_are_short() -> None:
    lengths = {name_of(module): len(module.read_text().splitlines()) for module in MODULES}
    assert not {name: length for name, length in lengths.items() if length > LONGEST}


@pytest.mark.parametrize("package", KNOW_NO_RUBRIC)
def test_only_tasks_stages_and_evaluation_know_what_a_rubric_is(package: str) -> None:
    lines = (
        f"{name_of(module)}:{number} {line.strip()}"
        for module in sorted((PACKAGE / package).rglob("*.py"))
        for number, line in enumerate(module.read_text().splitlines(), 1)
    )
    assert not [line for line in lines if re.search("rubric", line, re.IGNORECASE)]


def test_no_test_imports_a_test() -> None:
    found = []
    for module in sorted((ROOT / "tests").rglob("*.py")):
        for name, _, line in imports(ast.parse(module.read_text())):
            last = name.split(".")[-1]
            ours = name.split(".")[0] in ("tests", "conftest") or last == "conftest"
            if ours and not name.startswith("tests.helpers"):
                found.append(f"{name_of(module)}:{line} imports {name}")
    assert not found
