"""The strings: which name stands for which initializer.

Every class is registered with Keras as `"keras_inits>ClassName"`, the name that
saved models carry. Most also have a short alias, for `kernel_initializer="..."`.
An alias that Keras itself resolves is refused: a custom object under a built-in
name would silently change every other model in the process. So would an alias that
somebody passes as an argument, such as `interpolation="bilinear"`: Keras puts the
object in place of any such string that it loads. Aliases are names of initializers
and of nothing else.
"""

import contextlib
import difflib
import shutil
import textwrap
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import keras

from keras_inits.errors import KerasInitsError

_Class = TypeVar("_Class", bound=type)

PACKAGE = "keras_inits"


class InitializerRecord(NamedTuple):
    """One string that `kernel_initializer=` understands after the import.

    Args:
        name: the string, an alias or `"keras_inits>ClassName"`.
        class_name: the class that it creates.
        law: the law of the values drawn, in one line.
    """

    name: str
    class_name: str
    law: str


# Narrower than this a law is hard to read: then the classes are not shown.
_LAW_WIDTH = 40
# Where there is no terminal (a pipe, a file) each record is one line, for `grep`.
_NO_TERMINAL = (10_000, 24)


class Available(tuple[InitializerRecord, ...]):
    """Records of `available()`; prints as a table as wide as the terminal."""

    def __str__(self) -> str:
        width = shutil.get_terminal_size(_NO_TERMINAL).columns
        rows = [InitializerRecord("string", "class", "law"), *self]
        first = 2 + max(len(row.name) for row in rows)
        second = 2 + max(len(row.class_name) for row in rows)
        narrow = width < first + second + _LAW_WIDTH
        heads = [f"{row.name:{first}}" for row in rows]
        if not narrow:
            pairs = zip(heads, rows, strict=True)
            heads = [f"{head}{row.class_name:{second}}" for head, row in pairs]
        room = max(_LAW_WIDTH, width - len(heads[0]))
        lines = []
        for head, row in zip(heads, rows, strict=True):
            law = textwrap.wrap(row.law, room)
            lines += [head + law[0], *(" " * len(head) + more for more in law[1:])]
        lines.insert(1, "-" * max(map(len, lines)))
        if narrow:
            lines.append(f"Not shown at {width} characters: class.")
        return "\n".join(lines)

    __repr__ = __str__


class Preset:
    """A class with some arguments fixed beforehand, under an alias of its own.

    Keras calls `from_config` on whatever stands under a string, and would take a
    plain function for the initializer itself. What is saved is the class and its
    full config, so nothing depends on the preset afterwards.
    """

    def __init__(self, initializer: type, **arguments: Any) -> None:
        self.initializer = initializer
        self.arguments = arguments

    def __call__(self, **arguments: Any) -> Any:
        return self.initializer(**{**self.arguments, **arguments})

    def from_config(self, config: dict[str, Any]) -> Any:
        return self(**config)


_RECORDS: list[InitializerRecord] = []
_OBJECTS: dict[str, Any] = {}


def keras_resolves(name: str) -> bool:
    """Whether some `keras.*.get(name)` finds an object under this string."""
    for module in (
        keras.activations,
        keras.constraints,
        keras.initializers,
        keras.losses,
        keras.metrics,
        keras.optimizers,
        keras.regularizers,
    ):
        try:
            module.get(name)
        except Exception:  # each module refuses an unknown name in its own way
            continue
        return True
    return False


def register(
    alias: str | None = None, *, law: str, **presets: dict[str, Any]
) -> Callable[[_Class], _Class]:
    """Class decorator: makes an initializer known to Keras by its strings.

    Args:
        alias: short name, or `None` where the fitting one belongs to Keras.
        law: the law of the values drawn, in one line, for `available()`.
        **presets: further aliases, each with the arguments that it fixes.

    Raises:
        ValueError: if Keras itself resolves an alias.
    """

    def decorate(cls: _Class) -> _Class:
        full_name = f"{PACKAGE}>{cls.__name__}"
        if alias is not None:
            _claim(alias, cls)
        _RECORDS.append(InitializerRecord(alias or full_name, cls.__name__, law))
        for name, arguments in presets.items():
            _claim(name, Preset(cls, **arguments))
            shown = ", ".join(f"{key}={value}" for key, value in arguments.items())
            same = f"the same with {shown}"
            _RECORDS.append(InitializerRecord(name, cls.__name__, same))
        keras.saving.register_keras_serializable(package=PACKAGE)(cls)
        _OBJECTS[cls.__name__] = _OBJECTS[full_name] = cls
        return cls

    return decorate


def _claim(alias: str, target: Any) -> None:
    names = keras.saving.get_custom_objects()
    if alias not in names:
        if keras_resolves(alias):
            raise ValueError(
                "The alias of an initializer must be a name that Keras does not "
                f"resolve itself. Received: alias={alias!r}. Choose another one."
            )
        names[alias] = target
    elif getattr(names[alias], "__module__", "").startswith(PACKAGE):
        names[alias] = target  # the module was reloaded
    else:
        warnings.warn(
            f"The string {alias!r} already stands for {names[alias]!r}, which "
            f"another package registered. It is left alone; use "
            f'"{PACKAGE}>{getattr(target, "__name__", alias)}" instead.',
            stacklevel=3,
        )
    _OBJECTS[alias] = target


def _short_names_first(record: InitializerRecord) -> tuple[bool, str]:
    return record.name.startswith(PACKAGE), record.name


def available() -> Available:
    """Lists every string that names an initializer of this package.

    Example:

    >>> print(keras_inits.available())

    Returns:
        Records `(name, class_name, law)`, which print as a table: as wide as the
        terminal, without the classes where it is narrow.
    """
    return Available(sorted(_RECORDS, key=_short_names_first))


def resolved(initializer: Any) -> Any:
    """An initializer from whatever `keras.initializers.get` takes, or a class name.

    Raises:
        KerasInitsError: Nothing has this name; names that are close are listed.
    """
    try:
        return keras.initializers.get(initializer)
    except (ValueError, TypeError) as error:
        # Keras's own names come first: `"HeNormal"` is its class.
        with (
            contextlib.suppress(ValueError, TypeError),
            keras.saving.custom_object_scope(_OBJECTS),
        ):
            return keras.initializers.get(initializer)
        raise KerasInitsError(
            f"Unknown initializer. Received: {initializer!r}. {_hint(initializer)}"
            "print(keras_inits.available()) lists the strings of keras_inits; those "
            "of Keras are taken, too."
        ) from error


def _hint(initializer: Any) -> str:
    """Strings that are close, whatever their case."""
    own = (record.name for record in _RECORDS)
    names = [*own, *filter(str.islower, vars(keras.initializers))]
    folded = {name.casefold(): name for name in names}
    close = difflib.get_close_matches(str(initializer).casefold(), folded, n=3)
    names = [folded[x] for x in close]
    return f"Did you mean {', '.join(map(repr, names))}? " if names else ""


def custom_objects() -> dict[str, Any]:
    """The initializers by every name that a saved model may use.

    Example:

    >>> keras.saving.load_model(
    ...     "model.keras", custom_objects=keras_inits.custom_objects()
    ... )

    Returns:
        A new dict: class names (`.h5` files go by these), registered names
        (`"keras_inits>ClassName"`) and aliases, each with its class. In a file of
        Keras 2, which names classes without their module, `"HeNormal"` and the like
        then mean those of this package; load such a file without this argument.
    """
    return dict(_OBJECTS)
