"""No module of the package needs itself, through whatever other modules it imports: inside folders, too."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("server", "client", "strategies", "privacy", "simulations")


def module_files():
    """Every module of the package by its dotted name."""
    paths = [*(ROOT / "fedward").rglob("*.py"), *(path for top in FOLDERS for path in (ROOT / top).rglob("*.py"))]
    named = {}
    for path in paths:
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts if parts[0] == "fedward" else ("fedward", *parts)
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def imported(tree, modules):
    """Modules that are imported when the module is: not in functions, not for the type checker alone."""
    waiting, found = list(tree.body), set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules else node.module)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                continue
            waiting += ast.iter_child_nodes(node)
    return found & modules


def circles(graph):
    """Groups of modules that need each other (Tarjan 1972)."""
    index, low, stack, found = {}, {}, [], []

    def visit(name):
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1 or name in graph[name]:
                found.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return found


def test_no_module_needs_itself():
    files = module_files()
    assert len(files) > 120
    graph = {name: imported(ast.parse(path.read_text()), files.keys()) for name, path in files.items()}
    assert circles(graph) == []


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == [["b", "c"]]
