"""What another library calls it: the same law here or in Keras.

    >>> from keras_inits import porting
    >>> porting.TORCH["kaiming_uniform_"](a=5**0.5)
    >>> porting.torch_default(layer)

Each table maps a name of that library to a function that takes its arguments, with
its defaults, and returns the equivalent initializer. What says how to draw, not which
law, is left out: `seed`, `key`, `generator`, `dtype`; and so are JAX's axes, which are
those of Keras's kernels by default. A layer knows its dtype, and
`keras_inits.initialize(model, initializer, seed=0)` draws the same values every time.
"""

from keras_inits.porting.earlier import CHAINER, LASAGNE, MXNET
from keras_inits.porting.google import JAX, TF1
from keras_inits.porting.pytorch import TIMM, TORCH
from keras_inits.porting.torch_defaults import torch_default

__all__ = [
    "CHAINER",
    "JAX",
    "LASAGNE",
    "MXNET",
    "TF1",
    "TIMM",
    "TORCH",
    "torch_default",
]
