"""Errors of keras_inits: one small tree.

    KerasInitsError (ValueError)
    ├── DataError               the batch: missing, empty, of the wrong shape
    ├── DegenerateSignalError   a signal with zero variance, NaN or infinity
    ├── ConvergenceError        a target that no scale of the kernel reaches
    ├── UnsupportedLayerError   a layer that cannot be chosen, or is unknown
    ├── DistributionError       several devices or processes that cannot agree
    └── DegenerateDataError     data with NaN or without variance (also a DataError)

Keras re-raises what comes out of `Layer.call` as `e.__class__(message)`, so each
class takes exactly one message string.
"""

import numpy as np


class KerasInitsError(ValueError):
    """Base of every error that keras_inits raises on purpose."""


def check_flags(**flags: object) -> None:
    """Refuse what is neither True nor False: the string "False" would be true."""
    for name, value in flags.items():
        if not isinstance(value, (bool, np.bool_)):
            raise KerasInitsError(
                f"`{name}` is True or False. Received: {name}={value!r}"
            )


class DataError(KerasInitsError):
    """The data cannot serve: none, empty, of the wrong shape or type."""


class DegenerateSignalError(KerasInitsError):
    """A signal has zero variance, or holds NaN or infinity."""


class ConvergenceError(KerasInitsError):
    """No scale (or none found within `max_iterations`) reaches the target."""


class UnsupportedLayerError(KerasInitsError):
    """A layer is unknown to the model, or cannot be scaled."""


class DistributionError(KerasInitsError):
    """Inside one of several replicas, or a process is missing or has failed."""


class DegenerateDataError(DataError, DegenerateSignalError):
    """The data hold NaN or infinity, or do not vary: both of the above."""
