"""Mutations of a Python module: small changes of its syntax tree that a test should notice."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: Final[dict[type[ast.operator], ast.operator]] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.Div(),
    ast.Div: ast.Mult(),
    ast.FloorDiv: ast.Mult(),
    ast.Mod: ast.Mult(),
    ast.Pow: ast.Mult(),
    ast.BitOr: ast.BitAnd(),
    ast.BitAnd: ast.BitOr(),
    ast.BitXor: ast.BitAnd(),
    ast.LShift: ast.RShift(),
    ast.RShift: ast.LShift(),
}
PAIRS: Final = (
    *(("min", "max"), ("any", "all"), ("minimum", "maximum"), ("argmin", "argmax"), ("floor", "ceil")),
    *(("nanmin", "nanmax"), ("amin", "amax"), ("sum", "mean"), ("add", "discard"), ("startswith", "endswith")),
    *(("ones", "zeros"), ("ones_like", "zeros_like")),
)
OPPOSITE: Final = dict(PAIRS) | {b: a for a, b in PAIRS}
BUILTIN: Final = ("min", "max", "any", "all")
# calls whose arguments are messages for people, and functions that only return one
MESSAGES: Final = frozenset({"warn", "print", "log", "debug", "info", "warning", "record_event", "notify", "echo"})
TEXTS: Final = frozenset({"__repr__", "__str__", "_repr_html_"})
# keywords that only check what is true anyway, or describe
DESCRIPTIONS: Final = frozenset({"strict", "help", "label", "description", "unit", "stacklevel", "metavar"})


@dataclass(frozen=True)
class Mutant:
    """One change of one place in a module."""

    module: str  # path in the repository
    operator: str  # kind of change
    lineno: int  # of the changed expression or statement, from 1
    start: int  # offsets of the changed text in the module
    end: int
    text: str  # what replaces it
    lines: tuple[int, ...]  # executed by tests that can notice the change; empty: any line of the module

    def apply(self, source: str) -> str:
        """Return the module with this change."""
        return source[: self.start] + self.text + source[self.end :]


def mutants_of(module: str, source: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of the source."""
    tree = ast.parse(source)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: dict[tuple[int, int, str], Mutant] = {}
    for node, scope in _nodes(tree):
        for operator, place, text in _changes(node):
            # columns count bytes
            start, end = (
                starts[row - 1] + len(source[starts[row - 1] : starts[row]].encode()[:column].decode())
                for row, column in ((place.lineno, place.col_offset), (place.end_lineno, place.end_col_offset))
            )
            found[start, end, text] = Mutant(module, operator, place.lineno, start, end, text, _executed(place, scope))
    return sorted(found.values(), key=lambda m: (m.start, m.end, m.text))


Function = ast.FunctionDef | ast.AsyncFunctionDef


def _executed(node: Any, scope: Function | None) -> tuple[int, ...]:
    """Return the lines whose tests can notice a change: its own; those of the body for a change of a signature."""
    if scope is None or any("cache" in ast.unparse(decorator) for decorator in scope.decorator_list):
        return ()  # executed once per process, by the first test only
    first = scope.body[0].lineno
    if node.lineno < first:
        return tuple(range(first, (scope.end_lineno or first) + 1))
    return tuple(range(node.lineno, node.end_lineno + 1))


def _nodes(tree: ast.AST, scope: Function | None = None) -> Iterator[tuple[ast.AST, Function | None]]:
    """Yield the nodes that may be changed, each with its function."""
    for name, value in ast.iter_fields(tree):
        if name == "decorator_list":
            continue
        children = [child for child in (value if isinstance(value, list) else [value]) if isinstance(child, ast.AST)]
        if name in ("annotation", "returns"):  # only the bounds of settings are behavior
            fields = [n for c in children for n in ast.walk(c) if isinstance(n, ast.Call)]
            children = [call for call in fields if ast.unparse(call.func) == "Field"]
        for child in children:
            if _is_left_out(child):
                continue
            inner = child if isinstance(child, Function) else scope
            yield child, inner
            yield from _nodes(child, inner)


def _is_left_out(node: ast.AST) -> bool:
    """Return whether a node holds nothing but texts, types, patterns and imports."""
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Assert() | ast.Raise() | ast.JoinedStr() | ast.pattern():
            return True
        case ast.keyword(arg=name) if name in DESCRIPTIONS:
            return True
        case ast.FunctionDef(name=name) if name in TEXTS:
            return True
        case ast.If(test=test) if "TYPE_CHECKING" in ast.unparse(test):
            return True
        case ast.Expr(value=ast.Constant() | ast.Yield()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name))) if name in MESSAGES:
            return True
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name.strip("_") in ("all", "version") or _is_type(node.value)
    return False


def _is_type(value: ast.AST | None) -> bool:
    """Return whether an assigned value is the name of a type: `Key = tuple[str, int]`, `A | B`."""
    match value:
        case ast.Subscript(value=ast.Name(id=name)):
            return name in ("tuple", "dict", "list", "set", "Callable", "Literal", "Mapping", "Sequence", "NDArray")
        case ast.BinOp(op=ast.BitOr(), left=ast.Name() | ast.Subscript()):
            return True
        case ast.Call(func=ast.Name(id=name)):
            return name in ("TypeVar", "ParamSpec", "NewType")
    return False


Change = tuple[str, Any, str]  # kind, the place that is replaced, what replaces it


def _changes(node: Any) -> Iterator[Change]:
    """Yield each change of one node; places inside it are nodes of their own."""
    match node:
        case ast.Compare():
            yield from (("comparison", node, text) for text in _comparisons(node))
        case ast.BinOp(op=op) if type(op) in ARITHMETIC and not _has_text(node):
            yield "arithmetic", node, f"({_unparsed(node, op=ARITHMETIC[type(op)])})"
        case ast.AugAssign(op=op):
            if type(op) in ARITHMETIC and not _has_text(node):
                yield "arithmetic", node, _unparsed(node, op=ARITHMETIC[type(op)])
            yield "removal", node, "pass"
        case ast.BoolOp():
            yield from (("and/or", node, f"({text})") for text in _conditions(node))
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield "unary", node, f"({ast.unparse(node.operand)})"
        case ast.Constant(value=value) if isinstance(value, int | float):
            yield from (("constant", node, repr(changed)) for changed in _constants(value))
        case ast.IfExp():
            yield "branches", node, f"({_unparsed(node, body=node.orelse, orelse=node.body)})"
        case ast.Call():
            for i, keyword in enumerate(node.keywords):
                if keyword.arg is not None and keyword.arg not in DESCRIPTIONS:
                    yield "keyword", node, _unparsed(node, keywords=node.keywords[:i] + node.keywords[i + 1 :])
        case ast.Subscript(slice=ast.Slice() as part):
            for bound in ("lower", "upper", "step"):
                if getattr(part, bound) is not None:
                    without = ast.Slice(**{**dict(ast.iter_fields(part)), bound: None})
                    yield "slice", node, _unparsed(node, slice=without)
        case ast.Attribute(attr=name, ctx=ast.Load()) if name in OPPOSITE:
            yield "opposite", node, _unparsed(node, attr=OPPOSITE[name])
        case ast.Name(id=name, ctx=ast.Load()) if name in BUILTIN:
            yield "opposite", node, OPPOSITE[name]
        case ast.comprehension(ifs=conditions):
            yield from (("filter", condition, "True") for condition in conditions)
        case _:
            yield from _statements(node)


def _statements(node: Any) -> Iterator[Change]:
    match node:
        case ast.Expr(value=ast.Call()) | ast.Delete() | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "removal", node, "pass"
        case ast.Continue():
            yield "jump", node, "break"
        case ast.Break():
            yield "jump", node, "continue"
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant | ast.JoinedStr):
            yield "return", node, "return None"
        case ast.If(test=test) | ast.While(test=test):
            yield "condition", test, "False"
            yield "condition", test, f"(not ({ast.unparse(test)}))"
        case ast.ExceptHandler(type=ast.AST() as kind):
            yield "exception", kind, "ZeroDivisionError"


def _unparsed(node: ast.AST, **changed: Any) -> str:
    """Return the text of a node with some of its fields changed."""
    return ast.unparse(type(node)(**{**dict(ast.iter_fields(node)), **changed}))


def _constants(value: bool | float) -> tuple[bool | float, ...]:
    if isinstance(value, bool):
        return (not value,)
    return (value + 1, value - 1) if isinstance(value, int) else (value * 2 or 1.0, value + 1)


def _has_text(node: ast.AST) -> bool:
    """Return whether an operand is a text or None: a sum of texts, the type of an argument."""
    operands = ast.iter_child_nodes(node)
    return any(
        isinstance(n, ast.JoinedStr) or (isinstance(n, ast.Constant) and not isinstance(n.value, int | float))
        for n in operands
    )


def _comparisons(node: ast.Compare) -> Iterator[str]:
    for i, op in enumerate(node.ops):
        for other in COMPARISONS[type(op)]:
            yield f"({_unparsed(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])})"


def _conditions(node: ast.BoolOp) -> Iterator[str]:
    """Yield the condition with the other operator, and without each of its parts."""
    yield _unparsed(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    for i in range(len(node.values)):
        rest = node.values[:i] + node.values[i + 1 :]
        yield _unparsed(node, values=rest) if len(rest) > 1 else ast.unparse(rest[0])
