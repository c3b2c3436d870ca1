"""Layer-sequential unit-variance initialisation (Mishkin & Matas 2015).

    for each layer l, in the order of the forward pass:         the sweep does
        W_l  <- orthonormal                                     `lsuv_normal`
        while |Var(W_l x) - 1| >= tolerance:
            forward a batch                                     once, for all layers
            W_l <- W_l / sqrt(Var(W_l x))                       `Solver.signal`

The paper forwards the batch for each layer and each step. But scaling `W` by `s`
scales `W x` by `s`, so the tensor in hand is scaled along with the kernel, and the same
forward pass goes on to the next layer as if it had just begun.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any, Literal

import keras

from keras_inits.data.arrays import is_held
from keras_inits.data.batch import draw_batch
from keras_inits.data.indices import check_indices
from keras_inits.data.refusals import told_of_rows
from keras_inits.distribution import everywhere, placed
from keras_inits.errors import ConvergenceError, UnsupportedLayerError, check_flags
from keras_inits.initializers import LSUVNormal
from keras_inits.passes.programs import NOTHING, one_period
from keras_inits.report import SignalReport
from keras_inits.solving.constraints import constrained
from keras_inits.solving.decision import Options, Signal
from keras_inits.solving.half_precision import require_room
from keras_inits.solving.one_pass import OnePass, Solved, begun_with
from keras_inits.solving.reporting import report
from keras_inits.solving.rewritten import notes
from keras_inits.solving.sizes import telling_sizes
from keras_inits.solving.verdict import gain_of, to_scale
from keras_inits.structure.naming import Layers
from keras_inits.structure.selection import Selection, activation_layers, select
from keras_inits.structure.turns import in_turn
from keras_inits.weights.blocks import redraw
from keras_inits.weights.commit import commit

Tensor = Any

# What `target_std="critical"` allows the squared gradient to grow over the depth, and
# the smallest target that it tries: below, a network is linear for all purposes.
GROWTH = 10.0
SMALLEST_TARGET = 1e-3


@in_turn
@everywhere
def lsuv_init(
    model: keras.Model,
    data: Any = None,
    *,
    layers: Layers = None,
    target_std: float | Literal["critical"] = 1.0,
    center: bool = False,
    signal: Signal = "pre_activation",
    per_channel: bool = False,
    orthonormal: bool = False,
    training: bool = False,
    tolerance: float = 1e-3,
    max_iterations: int = 10,
    samples: int = 256,
    verbose: int = 0,
) -> SignalReport:
    """Scale the kernels so that every layer's signal has unit variance on `data`.

    One forward pass over the batch initialises the whole model. Kernels (and biases
    with `center`) change, nothing else does: moving statistics, seeds, metrics and
    optimizer stay, and whatever goes wrong, so do the kernels.

    Example:

        report = keras_inits.lsuv_init(model, x_train)
        print(report)

    Args:
        model: A built model.
        data: What `fit` accepts: an array, a list or dict of arrays, also nested, a
            `tf.data.Dataset`, `PyDataset`, `DataLoader` or generator; of a tuple
            `(x, y[, weights])` only `x` is used. Where batches differ in the shape of
            their rows, those like the first one serve. None among several inputs is
            an optional one that is missing; None alone draws standard-normal inputs.
            Steps that Keras's mask leaves out count nowhere.
        layers: Names, layers, a class or a predicate. None: the layers marked by an
            `lsuv_*` initializer or, where none is marked, every trainable layer that
            has a linear map. Layers that nothing describes are scaled where they are
            marked, named, or all that a predicate holds for.
        target_std: The deviation to meet, over the whole tensor `(batch, ...)`.
            `"critical"`: the largest in (0, 1] at which gradients grow at most 10-fold
            (squared norm) over all chosen layers, found in about ten passes; 1.0 where
            it does not matter. They count as one chain: other layers, parallel heads
            and skip connections do not (a note in the report says so).
        center: Also shift the biases, so that each output channel's mean is 0.
        signal: `"pre_activation"`, `W x + b` as in the paper, or `"output"`, after
            the activation. Recurrent layers always meet it on the input part `x @ W`
            of every gate.
        per_channel: Each output channel meets the target on its own.
        orthonormal: First redraw the chosen kernels as `LSUVNormal` would.
        training: Run the layers in training mode (BatchNormalization then normalises
            by the batch, as in the first step of training).
        tolerance: Largest accepted `|deviation - target_std|` (never finer than the
            layer's compute dtype can hold).
        max_iterations: Steps of the solver for `signal="output"`, where the
            activation makes it iterate, and for layers without an adapter.
        samples: Number of rows to draw from `data`; all of them where rows belong
            together, as the nodes of a graph do.
        verbose: 0: silent. 1: a progress bar over the layers.

    Returns:
        A `SignalReport`, one row per layer in the order of the calls, then those left
        out. Figures "before" are those of the layer's old kernel, on inputs already
        initialised. Its `inputs` describes the data where they are so far from order 1
        that the first kernel is of no size for steps of training, as a finding says.

    Raises:
        DataError: The data are missing, empty, of the wrong shape, all masked.
        DegenerateSignalError: A signal has no variance, or is NaN or infinite.
        ConvergenceError: No scale meets the target.
        UnsupportedLayerError: A layer is unknown or cannot be scaled.
        DistributionError: Inside `strategy.run`, or another process is missing.

    References:
        Mishkin & Matas, "All you need is a good init", arXiv:1511.06422.
    """
    check_flags(orthonormal=orthonormal, training=training)
    critical = target_std == "critical"
    options = Options(
        1.0 if target_std == "critical" else target_std,
        center,
        signal,
        per_channel,
        tolerance,
        max_iterations,
    )
    draw = cache(partial(draw_batch, model, data, samples, first_rows=False))
    # A stream is not drawn from before it is known that the layers are there.
    early = is_held(data) and not orthonormal
    ahead = begun_with(model, draw, options.target_std) if early else NOTHING
    selection = select(model, layers)
    selection.watched = activation_layers(selection.every)
    batch = draw()
    check_indices(model, batch)
    if center:
        _require_biases(selection)
    if per_channel or orthonormal:
        _require_maps(selection, "per_channel" if per_channel else "orthonormal")
    redrawn = _orthonormal_kernels(selection) if orthonormal else []
    once = not critical
    solve = OnePass(model, batch, selection, redrawn, training, verbose, once, ahead)
    with told_of_rows(data, batch), one_period():
        solved = _critical(solve, options) if critical else solve(options)
    require_room(solved.decisions, solved.trial)
    undone = constrained(solved.decisions, solved.trial) + notes(selection)
    target = solved.options.target_std
    made = solved.decisions, solved.trial, target
    sizes = telling_sizes(model, *made, selection.every, batch)
    changes = solved.trial.changes(to_scale(solved.decisions))
    found = solved.decisions, solved.shared, solved.options
    seen = {"training": training, "batch": batch, "data": data, "sizes": sizes}
    shown = report(model, selection, *found, **seen)
    for note in undone:
        shown = shown.with_note(note)
    if not len(shown):
        shown = shown.with_note("No layer of the model has a kernel to scale.")
    if critical and not shown.whole:
        shown = shown.with_note(
            'target_std="critical" counts the layers that it scales; the model has '
            "others, where gradients may grow, too."
        )
    if critical and not shown.plain:
        shown = shown.with_note(
            'target_std="critical" counts all layers as one chain; this model has '
            "branches, normalisation or code that is not known, where gradients may "
            "grow by more or less than it allows for."
        )
    return commit(changes, shown)


def _critical(solve: Callable[[Options], Solved], options: Options) -> Solved:
    """The largest target in (0, 1] at which gradients grow at most `GROWTH`-fold.

    The growth over the whole depth is the product of the layers' gradient gains,
    which rises with the target: bisection in its logarithm, a pass for each step.
    """
    best = solve(options)
    if gain_of(best.decisions) <= GROWTH:
        return best
    smallest = _feasible(solve, options, SMALLEST_TARGET)
    if smallest is not None and not _differ(best, smallest):
        return best
    low, high, best = math.log(SMALLEST_TARGET), 0.0, smallest or best
    while high - low > math.log(1.02):
        middle = (low + high) / 2
        solved = _feasible(solve, options, math.exp(middle))
        if solved is None:  # smaller than the biases' own deviation
            low = middle
        elif gain_of(solved.decisions) <= GROWTH:
            low, best = middle, solved
        else:
            high, best = middle, best if gain_of(best.decisions) <= GROWTH else solved
    return best


def _feasible(
    solve: Callable[[Options], Solved], options: Options, target: float
) -> Solved | None:
    try:
        return solve(replace(options, target_std=target))
    except ConvergenceError:
        return None


def _differ(one: Solved, other: Solved) -> bool:
    """Whether gradients see the target: those of a ReLU network do not.

    The first layer does not count. Its gain always follows the target, since the data
    stay as they are, and no weight receives that gradient.
    """
    gains = [gain_of(x.decisions[1:]) for x in (one, other)]
    if not all(0 < gain < math.inf for gain in gains):
        return True
    return abs(math.log(gains[0] / gains[1])) > math.log(1.1)


def _require_biases(selection: Selection) -> None:
    without = [
        layer.name
        for layer, maps in selection.maps.items()
        if all(m.bias is None or not m.bias_per_channel for m in maps)
    ]
    without += [layer.name for layer in selection.opaque]
    if without:
        raise UnsupportedLayerError(
            "center=True shifts biases, and these layers have none, or none for each "
            "channel: "
            f"{', '.join(without)}. Build them with use_bias=True, or leave them out "
            "with layers=."
        )


def _require_maps(selection: Selection, option: str) -> None:
    if selection.opaque:
        raise UnsupportedLayerError(
            f"{option}=True needs to know which axes of a kernel are inputs and "
            "outputs, and nothing describes these layers: "
            f"{', '.join(layer.name for layer in selection.opaque)}. Describe them "
            "with keras_inits.register_linear_map, or leave them out with layers=."
        )


def _orthonormal_kernels(selection: Selection) -> list[tuple[keras.Variable, Tensor]]:
    return [
        (m.kernel, placed(m.kernel, partial(redraw, m, LSUVNormal())))
        for maps in selection.maps.values()
        for m in maps
    ]
