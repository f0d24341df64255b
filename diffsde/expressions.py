"""Expressions in a config (`path.alpha="t**2"`), read by a closed grammar: no eval, no names beyond those listed."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping

import jax.numpy as jnp

from diffsde.errors import UserError
from diffsde.types import Scalar

FUNCTIONS: dict[str, Callable[[Scalar], Scalar]] = {
    name: getattr(jnp, name)
    for name in ("sin", "cos", "tan", "exp", "expm1", "log", "log1p", "sqrt", "abs", "tanh", "sinh", "cosh", "arctan")
}
LARGEST = 1e37  # size of a number; its inverse is the smallest that single precision holds
LONGEST = 1000  # letters of an expression
CONSTANTS: dict[str, float] = {"pi": math.pi, "e": math.e}
BINARY: dict[type[ast.operator], Callable[[Scalar, Scalar], Scalar]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
UNARY: dict[type[ast.unaryop], Callable[[Scalar], Scalar]] = {
    ast.USub: lambda value: -value,
    ast.UAdd: lambda value: value,
}


# What a page or another keyboard has in the place of an operator:
AS_TYPED = str.maketrans({"\u2212": "-", "\u2013": "-", "\u00d7": "*", "\u00b7": "*", "\u00f7": "/", "\u03c0": "pi"})


def evaluate_expression(text: str, variables: Mapping[str, Scalar]) -> Scalar:
    """The value of an arithmetic expression in the given variables.

    Grammar: numbers, variables, pi, e, + - * / **, parentheses and the functions in FUNCTIONS.
    Raises UserError naming what it does not know.
    """
    return _evaluated(text, variables, lambda body: body)


def evaluate_square(text: str, variables: Mapping[str, Scalar]) -> Scalar:
    """The square of evaluate_expression's value, by (sqrt(a) b)^2 = a b^2: differentiable where sqrt(a) is not, at a = 0."""
    return _evaluated(text, variables, _squared)


def _squared(node: ast.expr) -> ast.expr:
    """The square of an expression, its roots taken away where they are factors."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
        return ast.BinOp(_squared(node.left), node.op, _squared(node.right))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and ast.unparse(node.right) == "0.5":
        return node.left
    if isinstance(node, ast.UnaryOp):
        return _squared(node.operand)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "sqrt"
        and len(node.args) == 1
    ):
        return node.args[0]
    return ast.BinOp(node, ast.Pow(), ast.Constant(2))


def _evaluated(text: str, variables: Mapping[str, Scalar], change: Callable[[ast.expr], ast.expr]) -> Scalar:
    if len(text) > LONGEST:
        raise UserError(f"'{text[:60]}...' has {len(text):,} letters; an expression has {LONGEST:,} at most")
    text = " ".join(text.translate(AS_TYPED).split())  # so that one over several lines is read, and quoted in one
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UserError(f"'{text[:60]}' is not an expression; write e.g. 'sin(pi*t/2)' or 't**2'") from None
    try:
        value = _value(change(tree.body), variables, text)
    except (ArithmeticError, RecursionError) as error:
        raise UserError(f"'{text[:60]}' cannot be computed: {error}") from None
    if isinstance(value, complex):
        raise UserError(f"'{text}' is not a real number")
    return value


def _value(node: ast.expr, variables: Mapping[str, Scalar], text: str) -> Scalar:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        if abs(node.value) > LARGEST or 0 < abs(node.value) < 1 / LARGEST:
            raise UserError(f"'{text[:60]}': its number {ast.unparse(node)[:20]} is 0 or infinite in single precision")
        return float(node.value)
    if isinstance(node, ast.Name):
        if node.id in variables:
            return variables[node.id]
        if node.id in CONSTANTS:
            return CONSTANTS[node.id]
        known = ", ".join([*variables, *CONSTANTS])
        raise UserError(f"'{node.id}' in '{text}' is unknown; the variables are {known}")
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        left, right = _value(node.left, variables, text), _value(node.right, variables, text)
        if isinstance(node.op, ast.Pow) and isinstance(right, float) and right.is_integer() and abs(right) < 64:
            return left ** int(right)  # an integer power is differentiable at 0
        return BINARY[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp) and type(node.op) in UNARY:
        return UNARY[type(node.op)](_value(node.operand, variables, text))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1 and not node.keywords:
        if node.func.id in FUNCTIONS:
            return FUNCTIONS[node.func.id](_value(node.args[0], variables, text))
        raise UserError(f"function '{node.func.id}' in '{text}' is unknown; choose one of {', '.join(FUNCTIONS)}")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor):
        raise UserError(f"'{text}': a power is written **, not ^")
    raise UserError(
        f"'{text}' is outside the grammar: numbers, {', '.join(variables)}, pi, e, + - * / ** and {', '.join(FUNCTIONS)}"
    )
