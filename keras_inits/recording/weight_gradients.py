"""The gradient of a loss for every kernel, on the backend that Keras runs on."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
from keras import ops, tree

from keras_inits.backends import fetch, generators_kept, is_traced
from keras_inits.calling.shadows import shadowed
from keras_inits.data.arrays import arrays_of, each
from keras_inits.errors import DataError
from keras_inits.passes import compiled
from keras_inits.passes.kinds import Kind, kind_of
from keras_inits.recording.loss_inputs import loss_unbuilt, misfits, seen_of
from keras_inits.statistics.moments import moments
from keras_inits.structure.selection import Selection
from keras_inits.weights.trial import Trial

Tensor = Any
# Gradients, None where the loss does not depend on a kernel; and what else was seen.
Found: TypeAlias = tuple[list[Tensor | None], Any]


class WeightGradient(NamedTuple):
    """Deviation of a kernel's gradient, and the same over that of the kernel.

    None where a kernel has no deviation to compare with.
    """

    deviation: float
    ratio: float | None


def weight_gradients(
    model: keras.Model,
    selection: Selection,
    inputs: Any,
    targets: Any,
    loss: Any,
    kernels: Sequence[keras.Variable],
    training: bool,
) -> tuple[dict[int, WeightGradient], list[list[Any]]]:
    """By `id(kernel)`, deviation and gradient-to-weight ratio; changes nothing.

    Beside them, what `seen_of` has seen of the outputs.

    The loss is that of `fit`: summed over the outputs, with the regularisers of the
    model and whatever its layers add.

    Args:
        model: A built model.
        selection: Its layers.
        inputs: What it is called with.
        targets: Labels `(rows, ...)`, one row for each row of `inputs`; of several
            outputs a list or dict of them.
        loss: What `model.compile` accepts as its loss: a loss, its name, a function
            of labels and predictions, or a list or dict of these (None among them: an
            output without a loss). None: the loss of `model.compile`.
        kernels: The variables to differentiate for.
        training: The mode the layers run in.

    Raises:
        DataError: No loss is given and the model is not compiled with one, or the
            loss cannot be computed of these labels and outputs.
    """
    if loss is None and not getattr(model, "compiled", False):
        raise DataError(
            f"The gradient needs a loss, and {model.name!r} is not compiled with one. "
            'Pass it: measure(model, x, y, loss="mse").'
        )
    if not kernels:
        return {}, []
    inputs = compiled.as_tensors(inputs)
    targets = each(_as_tensor, targets)
    unique = {id(k): k for k in kernels}
    variables = list({**{id(v): v for v in model.variables}, **unique}.values())
    of_loss = _OfLoss(model, loss, list(unique.values()), variables, training)
    values, found = [v.value for v in variables], None
    if keras.backend.backend() == "jax" and compiled.traceable(selection, variables):
        kind = of_loss.kind(selection, (inputs, targets))
        passed = variables, (values, inputs, targets), of_loss.trace
        with shadowed(_losses(selection)), loss_unbuilt(model):
            found = compiled.run(model, "gradients", kind, *passed)
    if found is None:
        with shadowed(_losses(selection)), loss_unbuilt(model):
            found = of_loss.moments(values, inputs, targets), None
    rows, outputs = found[0]
    figures = iter(fetch([figure for row in rows for figure in row]))
    gradients = {
        key: _compared(math.prod(k.shape), *itertools.islice(figures, 4))
        for key, k in unique.items()
    }
    return gradients, outputs


def _losses(selection: Selection) -> list[tuple[Any, str, Any]]:
    """Room for the losses that layers add; those of the last call stay as they are."""
    return [
        (layer, name, kind())
        for layer in selection.every
        for name, kind in (("_losses", list), ("_loss_ids", set))
    ]


def _compared(
    count: int, mean: Any, variance: Any, own_mean: Any, own_variance: Any
) -> WeightGradient:
    """Of a gradient of `count` values, beside those of its kernel."""
    # None: the loss does not depend on it.
    size = 0.0 if mean is None else _deviation(count, mean, variance)
    weight = _deviation(count, own_mean, own_variance)
    return WeightGradient(size, size / weight if weight else None)


def _deviation(count: int, mean: Any, variance: Any) -> float:
    """A single value has none: its size stands for it."""
    return abs(float(mean)) if count == 1 else float(np.sqrt(variance))


@dataclass
class _OfLoss:
    """The gradient of a loss.

    Args:
        model: The model.
        loss: See `weight_gradients`.
        kernels: The variables to differentiate for.
        variables: All that the model reads, these among them.
        training: The mode the layers run in.
    """

    model: keras.Model
    loss: Any
    kernels: list[keras.Variable]
    variables: list[keras.Variable]
    training: bool

    def moments(
        self, values: Sequence[Tensor], inputs: Any, targets: Any
    ) -> tuple[list[list[Tensor | None]], list[list[Tensor]]]:
        """For each kernel mean and variance of its gradient, and of the kernel.

        Beside them, what `seen_of` sees of the outputs.

        Args:
            values: Of the variables.
            inputs: What the model is called with.
            targets: Labels.
        """
        places = {id(v): place for place, v in enumerate(self.variables)}
        chosen = [places[id(k)] for k in self.kernels]
        accepts = "training" in inspect.signature(self.model.call).parameters
        mode = {"training": self.training} if accepts else {}
        judge = self.model if self.loss is None else _Judge(self.model, self.loss)

        def loss_of(kernels: Sequence[Tensor]) -> tuple[Tensor, Any]:
            now = list(values)
            for place, kernel in zip(chosen, kernels, strict=True):
                now[place] = kernel
            # Inside the scope Keras regularises what the scope knows of.
            mapping = list(zip(self.variables, now, strict=True))
            with keras.StatelessScope(state_mapping=mapping, collect_losses=True):
                predicted = self.model(inputs, **mode)
                try:
                    total = judge.compute_loss(x=inputs, y=targets, y_pred=predicted)
                except Exception as error:  # of the backend's own classes, too
                    if not _refused(targets, predicted):
                        text = _misfit(self.model, targets, predicted, self.loss, error)
                        raise DataError(text) from error
                    total = math.nan * sum(map(ops.mean, tree.flatten(predicted)))
            # Without a reduction, it has a value for each row.
            return ops.mean(total), seen_of(predicted)

        kernels = [values[place] for place in chosen]
        gradients, seen = _GRADIENTS[keras.backend.backend()](loss_of, kernels)
        rows = [
            [*([None, None] if g is None else moments(g)), *moments(kernel)]
            for g, kernel in zip(gradients, kernels, strict=True)
        ]
        return rows, seen

    def trace(self, trial: Trial, inputs: Any, targets: Any) -> tuple[Any, None]:
        """The same of traced values, for `compiled.run`."""
        values = [trial.base(v) for v in self.variables]
        return self.moments(values, inputs, targets), None

    def kind(self, selection: Selection, batch: Any) -> Kind:
        """All that a trace depends on."""
        loss = getattr(self.model, "loss", None) if self.loss is None else self.loss
        named = tree.map_structure(lambda x: x if _is_name(x) else id(x), loss)
        # Made anew by each `compile`; what is in it is made at the first call.
        own = None
        if self.loss is None:
            own = getattr(self.model, "_compile_loss", None)
        held = [*tree.flatten(loss), *(v.regularizer for v in self.variables)]
        held += [getattr(x, "activity_regularizer", None) for x in selection.every]
        held = [x for x in held if not _is_name(x)]
        kernels = tuple(map(id, self.kernels))
        given = tuple(str(getattr(x, "_fn_kwargs", "")) for x in tree.flatten(loss))
        options = ("gradients", str(named), given, id(own), kernels, self.training)
        kind = kind_of(selection, batch, *options, held=held)
        kind.objects.append(own)
        return kind


def _is_name(loss: Any) -> bool:
    return loss is None or isinstance(loss, str)


class _Judge(keras.Model):
    """Computes a loss as `model` would, had it been compiled with it."""

    def __init__(self, model: keras.Model, loss: Any) -> None:
        super().__init__(name="judge")  # nameless, it would shift the names of others
        self.model = model
        if hasattr(model, "output_names"):
            self.output_names = model.output_names
        self.compile(optimizer=None, loss=loss, run_eagerly=True)

    @property
    def losses(self) -> list[Tensor]:
        """Of the regularisers, and what layers add."""
        return self.model.losses


def _as_tensor(y: Any) -> Tensor:
    """As `fit` hands labels to a loss: floats in Keras's own dtype."""
    if isinstance(y, np.ndarray) and y.dtype.kind in "OSU":
        raise DataError(f"Labels are numbers. Received: y of dtype {y.dtype}.")
    floats = "float" in keras.backend.standardize_dtype(y.dtype)
    return ops.convert_to_tensor(y, keras.config.floatx() if floats else None)


def _refused(*tensors: Any) -> bool:
    """Whether PyTorch has refused NaN or infinity, of which others' losses are NaN."""
    if keras.backend.backend() != "torch":
        return False  # and may be traced
    return not all(bool(ops.all(ops.isfinite(x))) for x in arrays_of(tensors))


def _misfit(
    model: keras.Model, targets: Any, predicted: Any, loss: Any, error: Exception
) -> str:
    own = getattr(model, "loss", None) if loss is None else loss
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    needs = "it needs one array of labels for each output with a loss"
    with contextlib.suppress(Exception):  # outputs that are no tensors
        found = misfits(own, targets, predicted)
        needs = "; ".join(f"{x.text}: {x.remedy}" for x in found) or needs
    return (
        f"The loss of {model.name!r} cannot be computed: {needs}. Received: y of "
        f"shapes {_shapes(targets)}, outputs of shapes {_shapes(predicted)}, "
        f"loss={own!r}. Keras says: {reason}"
    )


def _shapes(tensors: Any) -> str:
    return str(tree.map_structure(lambda x: tuple(getattr(x, "shape", ())), tensors))


def _tensorflow(loss_of: Callable[..., Any], values: list[Tensor]) -> Found:
    tf = sys.modules["tensorflow"]
    values = [tf.convert_to_tensor(v) for v in values]
    with tf.GradientTape() as tape:
        tape.watch(values)
        loss, seen = loss_of(values)
    found = tape.gradient(loss, values)
    return [None if g is None else tf.convert_to_tensor(g) for g in found], seen


def _jax(loss_of: Callable[..., Any], values: list[Tensor]) -> Found:
    jax = sys.modules["jax"]
    gradient = jax.grad(loss_of, has_aux=True)
    if not is_traced(values[0]):  # operation by operation takes longer
        with contextlib.suppress(Exception):
            return jax.jit(gradient)(values)
    return gradient(values)


def _torch(loss_of: Callable[..., Any], values: list[Tensor]) -> Found:
    torch = sys.modules["torch"]
    values = [v.detach().clone().requires_grad_() for v in values]
    with torch.enable_grad(), generators_kept():
        loss, seen = loss_of(values)
        if not loss.requires_grad:  # rounded, say
            return [None] * len(values), seen
        return list(torch.autograd.grad(loss, values, allow_unused=True)), seen


_GRADIENTS = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}
