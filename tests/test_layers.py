"""The storeys of the design: who may import whom, and who may touch what. Read from the source."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "modelpm"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

STOREYS = [
    {"modelpm.errors"},
    {"modelpm.oci"},
    {"modelpm.content"},
    {
        "modelpm.store",
        "modelpm.registry",
        "modelpm.transfer",
        "modelpm.model",
        "modelpm.trust",
        "modelpm.runner",
    },
    {"modelpm.project"},
    {
        "modelpm.installed",
        "modelpm.offered",
        "modelpm.remotes",
        "modelpm.foreign",
        "modelpm.intake",
    },
    {
        "modelpm.session",
        "modelpm.comparing",
        "modelpm.creating",
        "modelpm.exporting",
        "modelpm.importing",
        "modelpm.publishing",
        "modelpm.unpacking",
        "modelpm.installation",
    },
    {"modelpm.client", "modelpm.server"},
    {"modelpm.cli"},
    {"modelpm.__main__"},
]
"""From the ground up. A module imports from storeys below its own, and from its own part."""

STANDARD = {"collections", "dataclasses", "functools", "hashlib", "json", "re", "types", "typing"}
"""What errors and vocabulary may import: nothing of it does input or output."""

ONLY = {
    "oras": {"modelpm.registry.client"},
    "requests": {"modelpm.registry.client", "modelpm.registry.session"},
    "urllib3": {"modelpm.registry"},
    "tqdm": {"modelpm.cli.output"},
    "click": {"modelpm.cli"},
    "ctransformers": {"modelpm.runner.ctransformers"},
    "platformdirs": {"modelpm.installation", "modelpm.cli"},
    "zstandard": {"modelpm.model.archive"},
}
"""What the world outside is imported by."""


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def part(module: str) -> str:
    """The part of the design that a module belongs to: `modelpm.store.gc` to `modelpm.store`."""
    return ".".join(module.split(".")[:2])


def storey(module: str) -> int:
    for number, parts in enumerate(STOREYS):
        if part(module) in parts:
            return number
    raise AssertionError(f"{module} has no place in the design")


def imports(path: Path, *, typing: bool = True) -> Iterator[tuple[str, int]]:
    """What a module imports anywhere, if asked for types only too, and in which line."""
    tree = parsed(path)
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types and not typing:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in MODULES else str(node.module)), node.lineno


INNER = sorted(set(MODULES) - {"modelpm"})


@pytest.mark.parametrize("module", INNER)
def test_imports_lead_downwards_and_never_to_a_sibling(module: str) -> None:
    for name, line in imports(MODULES[module]):
        if name.split(".")[0] != "modelpm" or name == "modelpm" or part(name) == part(module):
            continue
        assert storey(name) < storey(module), f"{MODULES[module]}:{line} imports {name}"


@pytest.mark.parametrize("module", INNER)
def test_of_the_package_itself_only_the_version_is_imported(module: str) -> None:
    for node in ast.walk(parsed(MODULES[module])):
        if isinstance(node, ast.ImportFrom) and node.module == "modelpm":
            for alias in node.names:
                assert alias.name == "__version__" or f"modelpm.{alias.name}" in MODULES


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        module: {
            name for name, _ in imports(path, typing=False) if name in INNER and name != module
        }
        for module, path in MODULES.items()
    }
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " imports ".join((*above, module))
        if module not in done:
            for name in sorted(graph[module]):
                visit(name, (*above, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())
    assert done == set(MODULES)


@pytest.mark.parametrize("module", INNER)
def test_each_dependency_has_its_one_importer(module: str) -> None:
    for name, line in imports(MODULES[module]):
        allowed = ONLY.get(name.split(".")[0])
        if allowed is not None:
            fits = module in allowed or part(module) in allowed
            assert fits, f"{MODULES[module]}:{line} imports {name}"


def test_the_vocabulary_and_the_errors_touch_nothing_outside() -> None:
    for module in INNER:
        if storey(module) <= 1:
            for name, line in imports(MODULES[module]):
                top = name.split(".")[0]
                is_plain = top == "modelpm" or top in STANDARD
                assert is_plain, f"{MODULES[module]}:{line} imports {name}"


def forbidden(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Uses of what only the command line may do, and the lines of them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in {"print", "input", "exit", "quit", "breakpoint"}:
                yield node.func.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            dotted = f"{node.value.id}.{node.attr}"
            if dotted in {
                "os.environ", "os.environb", "os.getenv", "os.putenv", "os.system", "sys.exit",
                "os.abort", "sys.stdout", "sys.stderr", "sys.stdin", "sys.argv",
            }:  # fmt: skip
                yield dotted, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module in {"os", "sys"}:
            for alias in node.names:
                yield f"from {node.module} import {alias.name}", node.lineno


CHILD = "modelpm.runner."
"""The child process of the runner is a program of its own: it speaks over its own streams and gets
a bare environment from its parent."""


@pytest.mark.parametrize("module", INNER)
def test_only_the_command_line_prints_exits_and_reads_the_environment(module: str) -> None:
    if part(module) == "modelpm.cli":
        return
    for what, line in forbidden(parsed(MODULES[module])):
        if module.startswith(CHILD) and what.startswith("sys."):
            continue
        raise AssertionError(f"{MODULES[module]}:{line} uses {what}")


def test_only_files_py_writes_inside_the_store() -> None:
    """What changes a file system is called in one module of the store."""
    changing = re.compile(
        r"\.(write_bytes|write_text|unlink|rmdir|mkdir|rename|replace|touch|chmod|symlink_to)\("
        r"|os\.(write|open|unlink|remove|rename|replace|mkdir|utime|fchmod|chmod|ftruncate)\("
        r"|shutil\.|tempfile\.|\bopen\("
    )
    for module, path in MODULES.items():
        if not module.startswith("modelpm.store.") or module == "modelpm.store.files":
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if "self._files." in line or "dataclasses.replace(" in line or "self._open(" in line:
                continue
            assert not changing.search(line), f"{path}:{number} writes by itself: {line.strip()}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_each_module_is_short_and_tells_its_secret(module: str) -> None:
    text = MODULES[module].read_text()
    docstring = ast.get_docstring(parsed(MODULES[module]))
    assert docstring, f"{module} has no docstring"
    assert len(docstring.splitlines()[0]) <= 100
    assert len(text.splitlines()) <= 400, f"{module} has more than 400 lines"


def functions() -> Iterator[tuple[str, int]]:
    """Every function of the package and how many lines it has."""
    for module, path in MODULES.items():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield f"{module}.{node.name}", node.end_lineno - node.lineno + 1


def test_functions_are_short() -> None:
    lengths = dict(functions())
    assert {name: length for name, length in lengths.items() if length > 50} == {}
    assert sorted(lengths.values())[len(lengths) // 2] < 10


def test_there_is_no_drawer() -> None:
    drawers = {"utils", "util", "constants", "helpers", "types", "config", "common", "misc"}
    assert [module for module in MODULES if drawers & set(module.split("."))] == []


SILENCED = re.compile(r"#\s*(noqa|type:\s*ignore)(.*)")


def test_what_is_silenced_has_a_reason_and_is_rare() -> None:
    """Lazy imports are the design's one standing exception, and say so."""
    counted = []
    for path in MODULES.values():
        previous = ""
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = SILENCED.search(line)
            if match is not None:
                where = f"{path}:{number}"
                assert re.match(r"(:\s*[A-Z]+\d+|\[[a-z-]+\])", match[2]), f"{where}: silences all"
                if "PLC0415" in match[2]:
                    is_told = "lazy" in match[2] or "lazy" in previous
                    assert is_told, f"{where}: a lazy import says why"
                else:
                    assert re.search(r"\s[-#]\s*\w+", match[2]), f"{where}: no reason"
                    counted.append(where)
            if "PLC0415" not in line or "lazy" in line:
                previous = line
    assert len(counted) < 10, counted


def test_an_import_inside_a_function_is_marked() -> None:
    for path in MODULES.values():
        lines = path.read_text().splitlines()
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Import | ast.ImportFrom):
                        assert "PLC0415" in lines[inner.lineno - 1], f"{path}:{inner.lineno}"
