"""Expressions: a closed grammar that agrees with Python on what it knows and refuses everything else."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from diffsde.errors import UserError
from diffsde.expressions import FUNCTIONS, evaluate_expression

OUTSIDE = [
    "t.real",
    "().__class__",
    "t.__class__.__mro__",
    "__import__('os')",
    "__builtins__",
    "open('x')",
    "eval('t')",
    "sin.__call__(t)",
    "(lambda: 1)()",
    "lambda: t",
    "[t for t in t]",
    "{t}",
    "(t for t in t)",
    "{1: t}",
    "[t]",
    "(t, 1)",
    "t[0]",
    "t if t else 1",
    "t and 1",
    "not t",
    "t < 1",
    "t // 2",
    "t % 2",
    "t @ t",
    "t << 1",
    "t | 1",
    "~t",
    "(u := t)",
    "f'{t}'",
    "'t'",
    "b't'",
    "True",
    "None",
    "1j",
    "...",
    "sin",
    "sin()",
    "sin(t, t)",
    "sin(x=t)",
    "sin(*t)",
    "sin(sin)",
    "sin(t)(t)",
    "pi(t)",
    "max(t)",
    "u",
    "await t",
    "yield t",
]
NO_EXPRESSION = ["", " ", "t;t", "t = 1", "import os", "(t", "t)", "2t", "*t", "t +", "t²", "t\x00", "return t"]


@pytest.mark.parametrize("text", OUTSIDE + NO_EXPRESSION)
def test_everything_else_is_refused(text: str) -> None:
    """What is outside the grammar raises UserError, whatever Python would make of it."""
    with pytest.raises(UserError):
        evaluate_expression(text, {"t": 0.5})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("u + t", "'u'.*variables are t, pi, e"),
        ("max(t)", "'max'.*sin, cos"),
        ("(t", "not an expression"),
        ("t < 1", "grammar: .* and exp|grammar: .*sin"),
        ("-t^3", "power is written \\*\\*, not \\^"),
    ],
)
def test_refusals_say_what_is_wrong(text: str, message: str) -> None:
    """The one line names the culprit and what there is instead."""
    with pytest.raises(UserError, match=message) as refusal:
        evaluate_expression(text, {"t": 0.5})
    assert "\n" not in str(refusal.value)


def test_refused_text_is_never_run(tmp_path: object) -> None:
    """A call inside a refused expression has no effect."""
    mark = f"{tmp_path}/mark"
    for text in (f"open({mark!r}, 'w')", f"sin(open({mark!r}, 'w'))", f"[open({mark!r}, 'w')]"):
        with pytest.raises(UserError):
            evaluate_expression(text, {"t": 0.5})
    with pytest.raises(FileNotFoundError), open(mark):
        pass


NUMBERS = st.sampled_from(["0", "1", "2", "3", "0.5", "1.25", "1e-3", ".7", "10"])
ATOMS = st.one_of(NUMBERS, st.sampled_from(["t", "pi", "e", "t"]))


def _compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{}{}{}".format, inner, st.sampled_from(["+", "-", "*", "/", "**", " - ", " * "]), inner),
        st.builds("({})".format, inner),
        st.builds("{}{}".format, st.sampled_from(["-", "+"]), inner),
        st.builds("{}({})".format, st.sampled_from(sorted(FUNCTIONS)), inner),
    )


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.recursive(ATOMS, _compound, max_leaves=6), t=st.floats(0.01, 0.99))
def test_agrees_with_python(x64: None, text: str, t: float) -> None:
    """On its grammar the value is Python's own, with numpy's functions: precedence, associativity, signs and all."""
    names = {name: getattr(np, name) for name in FUNCTIONS} | {"pi": math.pi, "e": math.e, "t": np.float64(t)}
    try:
        with np.errstate(all="ignore"):
            expected = eval(text, {"__builtins__": {}}, names)
    except (ZeroDivisionError, OverflowError):
        assume(False)
    assume(not isinstance(expected, complex) and np.isfinite(expected) and abs(expected) < 1e12)
    assert float(evaluate_expression(text, {"t": jax.numpy.asarray(t)})) == pytest.approx(
        float(expected), rel=1e-9, abs=1e-9
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-2**2", -4),
        ("2**3**2", 512),
        ("2**-1", 0.5),
        ("8/4/2", 1),
        ("1-2-3", -4),
        ("-t**2", -0.25),
        ("2*-t", -1),
        ("+t", 0.5),
    ],
)
def test_precedence(text: str, value: float) -> None:
    """Powers bind tighter than signs and to the right, the rest to the left."""
    assert float(evaluate_expression(text, {"t": 0.5})) == value


@pytest.mark.parametrize(("text", "slope"), [("t**2", 0), ("t**1", 1), ("t**0", 0), ("t**3.0", 0), ("(1-t)**2", -2)])
def test_integer_powers_are_differentiable_at_zero(text: str, slope: float) -> None:
    """d/dt t^n at 0 is finite, where a floating-point power gives nan."""
    assert float(jax.grad(lambda t: evaluate_expression(text, {"t": t}))(0.0)) == slope


def test_variables_come_before_constants() -> None:
    """A variable may be called e."""
    assert evaluate_expression("e", {"e": 2.0}) == 2.0


@pytest.mark.parametrize("text", ["1/0", "t + 0**-1", "1e3**1e3", "9**9**9", "10**63*10**400", "1" * 400])
def test_arithmetic_that_fails_is_the_users_to_mend(text: str) -> None:
    """Division by zero or overflow among the constants is refused as a UserError, not a traceback."""
    with pytest.raises(UserError):
        evaluate_expression(text, {"t": 0.5})


def test_lines_are_joined() -> None:
    """An expression over several lines is read, and quoted in one line when it is refused."""
    assert evaluate_expression("t\n  + 1", {"t": 1.0}) == 2
    with pytest.raises(UserError, match=r"^[^\n]*$"):
        evaluate_expression("t\n  + q", {"t": 1.0})


def test_no_complex_numbers() -> None:
    """(-1)**0.5 has no real value: it is refused, or nan, never complex."""
    try:
        value = evaluate_expression("(-1)**0.5", {"t": 0.5})
    except UserError:
        return
    assert not np.iscomplexobj(value)


@pytest.mark.parametrize("text", ["+".join(["t"] * 1500), "-" * 1500 + "t", "sin(" * 1500 + "t" + ")" * 1500])
def test_depth_is_the_users_to_mend(text: str) -> None:
    """Nesting deeper than the interpreter's stack is refused as a UserError."""
    with pytest.raises(UserError):
        evaluate_expression(text, {"t": 0.5})
