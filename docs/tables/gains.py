"""Writes docs/gains.md: the gain of every activation, and what is usually recommended.

Run it from the repository root: python docs/tables/gains.py
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import keras

from keras_inits.gains import gain, mean_square_derivative

PAGE = Path(__file__).parent.parent / "gains.md"

HEAD = """# Gains

`keras_inits.gain(f)` is $1 / \\sqrt{{E[f(z)^2]}}$ with $z \\sim N(0, 1)$, by
quadrature, for any Keras activation or callable that acts on each value alone. A kernel
of variance `gain(f)^2 / fan_in` gives pre-activations of variance 1 where the layer
before put out `f` of a standard normal signal: so in a stack of one activation.
`initialize(model)` draws it by each layer's own activation, or the layer or
operation (`ops.relu(h)`) behind it. Written by `docs/tables/gains.py`.

- **gain**: the deviation of the kernel, times $\\sqrt{{\\text{{fan-in}}}}$.
- **PyTorch**: what `torch.nn.init.calculate_gain` says, where it knows the function.
- **gradient**: the factor by which one layer multiplies the squared norm of a
  gradient at this fixed point, $gain^2 E[f'(z)^2]$. Over 100 layers 1.18 becomes
  $10^7$, and 0.9 becomes $10^{{-5}}$.
- **variance that is off**: what becomes of a variance of 1.1 after ten layers. 1.10: it
  stays (the function is homogeneous); nearer to 1: it returns by itself; further away:
  it drifts, and only data (`lsuv_init`) or normalisation hold it.
- **usual**: the law that is commonly recommended.

| activation | gain | PyTorch | gradient | variance that is off | usual | why |
|---|---|---|---|---|---|---|
"""

FOOT = """
What it means:

- **ReLU and leaky ReLU**: He's factor of 2 is the squared gain itself, and gradients
  keep their size too. One choice is right for both.
- **tanh** returns to variance 1 under its gain of 1.59, at the price of gradients that
  grow by 18 % per layer. Glorot's law (gain 1 where the width stays) lets the deviation
  fall instead, slowly, as $1 / \\sqrt{{2 \\cdot \\text{{depth}}}}$. For depth:
  `lsuv_init(model, x, target_std="critical", orthonormal=True)`.
- **sigmoid and softplus** are never negative, so that most of their mean square is
  mean: after a few layers all samples look alike, and gradients shrink. No scale mends
  that; centring does: `lsuv_init(model, x, center=True)`.
- **SELU and ELU** return to variance 1. SELU's constants make LeCun's law, gain 1, a
  fixed point with mean 0.
- **GELU, SiLU and Mish** drift: what is a little too large grows, what is a little too
  small dies. Shallow networks do not notice; deep plain ones need `lsuv_init`, or, for
  GELU and SiLU, `initialize(model, "looks_linear")`.
"""


class Case(NamedTuple):
    """One activation with what is commonly said of it."""

    name: str
    function: Any
    pytorch: float | None
    usual: str
    why: str


def cases() -> list[Case]:
    """In the order of the page."""
    leaky = keras.layers.LeakyReLU(0.01)
    usual_he = "half of its inputs pass, nearly, as in ReLU"
    return [
        Case("linear", "linear", 1.0, "LeCun", "it sums fan-in terms"),
        Case("relu", "relu", 2**0.5, "He", "half of the mean square is cut off"),
        Case(
            "leaky_relu (0.01)",
            leaky,
            (2 / (1 + 0.01**2)) ** 0.5,
            "He",
            "as ReLU, with 1 + slope²",
        ),
        Case(
            "leaky_relu (0.2)",
            "leaky_relu",
            (2 / (1 + 0.2**2)) ** 0.5,
            "He",
            "Keras's default slope",
        ),
        Case("relu6", "relu6", None, "He", "as ReLU: few values reach 6"),
        Case("elu", "elu", None, "He", usual_he),
        Case("celu", "celu", None, "He", usual_he),
        Case("selu", "selu", 0.75, "LeCun", "its constants were made for gain 1"),
        Case("gelu", "gelu", None, "He", usual_he),
        Case("silu (swish)", "silu", None, "He", usual_he),
        Case("mish", "mish", None, "He", usual_he),
        Case("softplus", "softplus", None, "Glorot", "smooth, never negative"),
        Case("tanh", "tanh", 5 / 3, "Glorot", "near 0 it is the identity"),
        Case("softsign", "softsign", None, "Glorot", "near 0 it is the identity"),
        Case("hard_tanh", "hard_tanh", None, "Glorot", "near 0 it is the identity"),
        Case("sigmoid", "sigmoid", 1.0, "Glorot", "at 0 its slope is 1/4"),
        Case("hard_sigmoid", "hard_sigmoid", None, "Glorot", "as sigmoid"),
        Case("exponential", "exponential", None, "-", "grows beyond all bounds"),
    ]


def drifted(function: Any, layers: int = 10, start: float = 1.1) -> float:
    """The variance of the pre-activation after some layers, in the limit of width."""
    f, variance = keras.activations.get(function), start
    scale = gain(function) ** 2
    for _ in range(layers):
        deviation = variance**0.5
        try:
            variance = scale / gain(lambda z, s=deviation: f(s * z)) ** 2
        except ValueError:  # overflow
            return math.inf
    return variance


def row(case: Case) -> str:
    """One line of the table."""
    value = gain(case.function)
    gradient = value**2 * mean_square_derivative(case.function)
    end = drifted(case.function)
    cells = [
        case.name,
        f"{value:.3f}",
        "" if case.pytorch is None else f"{case.pytorch:.3f}",
        f"{gradient:.2f}",
        f"{end:.2f}" if end < 100 else "beyond 100",
        case.usual,
        case.why,
    ]
    return f"| {' | '.join(cells)} |"


def page() -> str:
    """The page as it is to be."""
    return HEAD.format() + "\n".join(map(row, cases())) + "\n" + FOOT.format()


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
