"""A verb that changes a model: in all processes, or in none."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import keras

from keras_inits.distribution import on_tensorflow
from keras_inits.distribution.peers import Peers, peers_of
from keras_inits.errors import DistributionError

Verb = TypeVar("Verb", bound=Callable[..., Any])


def everywhere(verb: Verb) -> Verb:
    """A verb of one process as one of all: begun together, with the same seeds.

    Where it fails, Python's generator is as before, as the weights are.

    Where it fails in one process, the others, which wait for it before they write, are
    told; `commit` is where they meet again.

    Raises:
        DistributionError: In one replica of several; a process is missing or failed.
    """

    @functools.wraps(verb)
    def wrapper(model: keras.Model, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(model, keras.layers.Layer):
            return verb(model, *args, **kwargs)  # which says so
        _refuse_in_replica(verb.__name__)
        with _seeds_kept_on_failure(), peers_of(model) as peers:
            if peers is None:
                return verb(model, *args, **kwargs)
            words = f"{verb.__name__} of {len(model.variables)} variables begins"
            with _same_seeds(peers, words):
                try:
                    return verb(model, *args, **kwargs)
                except DistributionError:
                    raise  # the others know
                except Exception as error:
                    with contextlib.suppress(DistributionError):
                        peers.meet(f"{type(error).__name__}: {error}", failed=True)
                    raise

    return cast(Verb, wrapper)


def _refuse_in_replica(verb: str) -> None:
    if keras.backend.backend() == "tensorflow":
        on_tensorflow.refuse_in_replica(verb)


@contextlib.contextmanager
def _seeds_kept_on_failure() -> Iterator[None]:
    """An interrupt counts as failing."""
    state = random.getstate()
    try:
        yield
    except BaseException:
        random.setstate(state)
        raise


@contextlib.contextmanager
def _same_seeds(peers: Peers, words: str) -> Iterator[None]:
    """Python's generator, which `seed=None` draws from, as process 0 has it."""
    state = random.getstate()
    shown = peers.first_object(state, words)
    if peers.is_first:
        yield
        return
    random.setstate(shown)
    try:
        yield
    finally:
        random.setstate(state)
