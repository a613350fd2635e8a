"""What holds for the repository as a whole: imports, sizes, light help, the wheel."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from multimodal import SIBLINGS
from multimodal.cli import VERBS, main

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "language": {"language"},
    "vision": {"language", "vision"},
    "speech": {"language", "speech"},
    "video": {"language", "vision", "video"},
    "multimodal": {"language", "vision", "speech", "video", "multimodal"},
}
MODULES = [path for name in MAY_IMPORT for path in sorted((ROOT / name).rglob("*.py"))]
HEAVY = ("torch", "lightning", "transformers", "tokenizers", "timm", "open_clip", "webdataset")


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports anywhere, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import in line {node.lineno}"
            names.add((node.module or "").split(".")[0])
    return names


def test_all_packages_are_under_the_rule():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages == set(MAY_IMPORT) == {*SIBLINGS, "multimodal"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module(path: Path):
    """Imports run one way; the product imports neither tests nor oracles; one idea a file."""
    package = path.relative_to(ROOT).parts[0]
    names = imported(path)
    assert names & set(MAY_IMPORT) <= MAY_IMPORT[package]
    assert not names & {"tests", "benchmarks", "configs", "transformers", "pytest"}
    text = path.read_text()
    assert len(text.splitlines()) <= 400, "an idea a file: split it"
    assert ast.get_docstring(ast.parse(text)), "say in the first line which idea this is"
    assert path.stem not in {"utils", "helpers", "misc", "common"}


def test_nothing_unpickles():
    """Files never run code: no unpickling, and torch reads weights alone."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert not re.match(r"pickle\.(loads?|Unpickler)$", called), path
                if called == "torch.load":
                    assert "weights_only=True" in ast.unparse(node), f"{path}:{node.lineno}"


def test_dependencies_are_declared():
    """Whatever the packages import from elsewhere is named in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    declared = {re.match(r"[\w-]+", line)[0].lower().replace("-", "_") for line in wanted}
    import_names = {"PIL": "pillow", "yaml": "pyyaml", "open_clip": "open_clip_torch"}
    import_names["parselmouth"] = "praat_parselmouth"
    foreign = set().union(*(imported(path) for path in MODULES))
    foreign -= set(sys.stdlib_module_names) | set(MAY_IMPORT) | {"readline"}
    assert {import_names.get(name, name).lower() for name in foreign} <= declared


def test_constraints_agree_with_what_is_required():
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        r.name.lower().replace("-", "_"): r
        for r in map(
            Requirement, sum(project["optional-dependencies"].values(), project["dependencies"])
        )
    }
    tested = (ROOT / "constraints.txt").read_text().split()
    pinned = dict(line.lower().replace("-", "_").split("==") for line in tested)
    assert set(wanted) <= set(pinned), "pin what is tested"
    for name, requirement in wanted.items():
        assert requirement.specifier.contains(pinned[name].replace("_", "-")), name


@pytest.mark.parametrize("words", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_comes_without_heavy_imports(words):
    code = f"""
import sys
from multimodal.cli import main
try:
    status = main({words})
except SystemExit as stop:
    status = stop.code
heavy = [name for name in {HEAVY} if name in sys.modules]
sys.exit(status or (f"imported {{heavy}}" if heavy else 0))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "usage: openherd" in done.stdout


def test_overview_names_every_verb(capsys):
    assert main([]) == 2
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in VERBS)


def test_an_intruder_among_the_packages_is_named(tmp_path: Path):
    (tmp_path / "language").mkdir()
    (tmp_path / "language" / "__init__.py").touch()
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import multimodal"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    fault = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and fault.startswith("ImportError") and str(tmp_path) in fault


@pytest.mark.slow
def test_wheel_holds_packages_and_configs_and_no_tests(tmp_path: Path):
    tree = tmp_path / "tree"  # apart, since setuptools keeps files of earlier builds in build/
    skipped = shutil.ignore_patterns(".*", "build", "dist", "runs", "demo", "*.egg-info")
    shutil.copytree(ROOT, tree, ignore=lambda folder, names: (
        skipped(folder, names) if Path(folder) == ROOT else {"__pycache__"}
    ))  # fmt: skip
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path, tree]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    (wheel,) = tmp_path.glob("openherd-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(path.relative_to(ROOT)) for path in MODULES}
    configs = {
        f"multimodal/_configs/{path.relative_to(ROOT / 'configs')}"
        for path in (ROOT / "configs").rglob("*.yaml")
    }
    shipped = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "multimodal" / "_tiny").rglob("*")
        if path.is_file()
    }
    assert configs and shipped
    metadata = {name for name in names if ".dist-info/" in name}
    assert names - metadata == sources | configs | shipped
    assert any(name.endswith("LICENSE") for name in metadata)
