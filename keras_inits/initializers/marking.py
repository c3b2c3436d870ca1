"""Which variables asked to be initialised by LSUV."""

import sys

import keras

_MARK = "_keras_inits_lsuv"


class MarksForLSUV:
    """Mixin: calling the initializer marks the variable it is called for."""

    def _mark(self) -> None:
        """Marks the `keras.Variable` that is being created, if there is one.

        Keras hands an initializer a shape and a dtype, nothing else; a layer that
        writes `self.add_weight(initializer="lsuv_normal")` keeps no reference to
        either. The only trace of the variable is the caller's frame: a method of
        the variable itself, a few frames up (a lambda, a `jit` and TensorFlow's
        own variable may stand between), at once or, where creation is deferred,
        later. Where nothing is found nothing happens, and the user names the layer.
        """
        frame = sys._getframe(1)
        while frame is not None:
            caller = frame.f_locals.get("self")
            if isinstance(caller, keras.Variable):
                vars(caller)[_MARK] = True
                return
            if isinstance(caller, keras.Layer):
                return  # the initializer was called by a layer, for no variable
            frame = frame.f_back  # type: ignore[assignment]


def is_marked(variable: keras.Variable) -> bool:
    """Whether an `lsuv_*` initializer created this variable."""
    return bool(vars(variable).get(_MARK, False))
