"""Which plain networks train at which depth, from which initialisation?

Real MNIST: 10,000 images, 2 epochs of Adam in batches of 100 (200 steps), accuracy on
2,000 others. Networks without normalisation or skip connection: Dense layers of 64
units, or 3 x 3 convolutions of 8 channels on images pooled to 7 x 7. Each model is
built in Keras and initialised by the library; its kernels are then trained by one loop
over the layers in JAX (`support/scanned.py`), which computes the same: `--check`.

Beside the accuracy the Jacobian of the logits for the image at the start: mean square
of its 10 singular values, and the largest over the smallest (median over images).
Rows are written as they are found (`--rows FILE`), and found again on the next run.

    python benchmarks/depth.py                               # two activations, 30, 100
    python benchmarks/depth.py --full --rows depth.txt --data mnist.npz
    python benchmarks/depth.py --kind conv --depths 30 100 --seeds 1
    python benchmarks/depth.py --check                       # the same as Keras's fit
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from support import tables

import keras_inits

WIDTH, CHANNELS, PIXELS = 64, 8, 7
TRAIN, TEST, BATCH, EPOCHS, IMAGES = 10_000, 2_000, 100, 2, 16
RATES = {
    "dense": {30: 1e-4, 100: 1e-4, 300: 3e-5, 1000: 1e-5},
    "conv": {30: 1e-4, 100: 1e-4, 300: 1e-4, 1000: 1e-5},
}
MIRRORED = ("relu", "leaky_relu", "gelu", "silu", "softplus")
ACTIVATIONS = (*MIRRORED, "elu", "selu", "tanh", "sigmoid")


class Data(NamedTuple):
    """Images `(samples, ...)`, standardised, and their digits."""

    x: Any
    y: Any
    x_test: Any
    y_test: Any


def mnist(path: str | None, kind: str) -> Data:
    """The first images of MNIST, flat, or pooled with one channel."""
    if path:
        with np.load(path) as file:
            x, y, x_test, y_test = (
                file[name] for name in ("x_train", "y_train", "x_test", "y_test")
            )
    else:
        (x, y), (x_test, y_test) = keras.datasets.mnist.load_data()
    mean, std = x[:TRAIN].mean(), x[:TRAIN].std()

    def ready(images: Any) -> Any:
        images = ((images - mean) / std).astype("float32")
        if kind == "dense":
            return images.reshape(len(images), -1)
        step = 28 // PIXELS
        tiles = images.reshape(-1, PIXELS, step, PIXELS, step)
        pooled = tiles.mean(axis=(2, 4))[..., None]
        return pooled / pooled.std()

    y, y_test = (labels.astype("int32") for labels in (y, y_test))
    return Data(ready(x[:TRAIN]), y[:TRAIN], ready(x_test[:TEST]), y_test[:TEST])


# Starts: each one call or string of the library (or of Keras), and what it reports.


def string(name: str) -> Callable[..., str]:
    """Every kernel by this string."""

    def start(model: keras.Model, data: Data, seed: int) -> str:
        keras_inits.initialize(model, name, seed=seed)
        return ""

    return start


def lsuv(target: Any, first: Callable[..., Any], **options: Any) -> Callable[..., str]:
    """Scaled on the data, after another start."""

    def start(model: keras.Model, data: Data, seed: int) -> str:
        first(model, data, seed)
        report = keras_inits.lsuv_init(model, data.x, target_std=target, **options)
        return f"std {report.target_std:.2g}" if target == "critical" else ""

    return start


def mirrored(model: keras.Model, data: Data, seed: int) -> str:
    """The strings of looks-linear, layer by layer, whatever the activation."""
    first, *_, last = (layer.name for layer in model.layers if layer.weights)
    cases = {
        first: "looks_linear_first",
        last: keras_inits.LooksLinear(mirrored_output=False),
        "*": "looks_linear",
    }
    keras_inits.initialize(model, cases, seed=seed)
    return ""


def delta(model: keras.Model, data: Data, seed: int) -> str:
    """Convolutions by their centre tap alone."""
    cases = {"conv*": "delta_orthogonal", "*": "orthonormal"}
    keras_inits.initialize(model, cases, seed=seed)
    return ""


LSUV_NORMAL = string("lsuv_normal")
STARTS: dict[str, Callable[..., str]] = {
    "default": string("glorot_uniform"),
    "He": string("he_normal"),
    "orthonormal": string("orthonormal"),
    "LSUV": lsuv(1.0, LSUV_NORMAL),
    "critical": lsuv("critical", LSUV_NORMAL),
    "LSUV 0.1": lsuv(0.1, LSUV_NORMAL),
    "centred 0.1": lsuv(0.1, LSUV_NORMAL, center=True),
    "mirrored 0.1": lsuv(0.1, mirrored),
    "looks-linear": string("looks_linear"),
    "delta": delta,
    "delta 0.1": lsuv(0.1, delta),
}


def starts_for(kind: str, activation: str) -> list[str]:
    """Looks-linear where it holds, else small targets; delta for convolutions."""
    names = ["default", "He", "orthonormal", "LSUV", "critical"]
    if activation in MIRRORED:
        return [*names, "looks-linear"]
    names += ["LSUV 0.1"] + ["centred 0.1"] * (activation == "sigmoid")
    return [*names, "mirrored 0.1", *(["delta", "delta 0.1"] if kind == "conv" else [])]


def plain(kind: str, activation: str, depth: int) -> keras.Model:
    """`depth` hidden layers, and logits."""
    if kind == "dense":
        inputs = keras.Input((784,))
        hidden = [keras.layers.Dense(WIDTH, activation) for _ in range(depth)]
    else:
        inputs = keras.Input((PIXELS, PIXELS, 1))
        hidden = [
            keras.layers.Conv2D(CHANNELS, 3, padding="same", activation=activation)
            for _ in range(depth)
        ]
        hidden.append(keras.layers.Flatten())
    return keras.Sequential([inputs, *hidden, keras.layers.Dense(10)])


# A start with which the first seed learns nothing is not given another: 0.1 is chance.
FAILED = 0.2


class Row(NamedTuple):
    """One network, trained."""

    kind: str
    depth: int
    activation: str
    start: str
    seed: int
    accuracy: float
    loss: float
    mean_square: float
    spread: float
    note: str


Rows = list[Row]
Setting = tuple[str, int, str]  # kind, depth, activation


def trained(
    setting: Setting, pairs: list[tuple[int, str]], data: Data, had: Rows
) -> Iterator[Row]:
    """Every pair of seed and start of one setting that is not `had`."""
    from support.scanned import Trainer, batches, stacked

    kind, depth, activation = setting
    model = plain(kind, activation, depth)
    trainer = Trainer(activation, RATES[kind].get(depth, 1e-4))
    known: dict[str, tuple[float, ...]] = {}
    for seed, start in pairs:
        earlier = [row for row in had if row.start == start]
        if any(row.seed == seed or row.accuracy < FAILED for row in earlier):
            continue
        _reset_biases(model)
        note = STARTS[start](model, data, seed)
        weights = stacked(model.get_weights())
        key = _digest(model) + str(seed)
        if key not in known:  # a critical target of 1 is LSUV: trained once
            values = trainer.singular_values(weights, data.x_test[:IMAGES])
            batch = batches(data.x, data.y, BATCH, EPOCHS, seed)
            after, losses = trainer.train(weights, *batch)
            accuracy = trainer.accuracy(after, data.x_test, data.y_test)
            known[key] = accuracy, float(losses[-10:].mean()), *_figures(values)
        had = [*had, Row(*setting, start, seed, *known[key], note)]
        yield had[-1]


def wanted(
    setting: Setting, arguments: argparse.Namespace, rows: Rows
) -> list[tuple[int, str]]:
    """Seeds and starts."""
    kind, depth, activation = setting
    starts = starts_for(kind, activation)
    starts = [x for x in starts if x in (arguments.starts or starts)]
    if arguments.skip_failed:
        failed = {
            row.start
            for row in rows
            if (row.kind, row.activation) == (kind, activation)
            and row.depth < depth
            and row.accuracy < FAILED
        }
        starts = [x for x in starts if x not in failed]
    return list(itertools.product(range(arguments.seeds), starts))


def _reset_biases(model: keras.Model) -> None:
    for layer in model.layers:
        if layer.weights:
            layer.bias.assign(np.zeros(layer.bias.shape))


def _digest(model: keras.Model) -> str:
    weights = b"".join(w.tobytes() for w in model.get_weights())
    return hashlib.sha256(weights).hexdigest()


def _figures(values: Any) -> tuple[float, float]:
    """Mean square, and the median over images of the largest over the smallest."""
    with np.errstate(all="ignore"):
        spread = np.median(values[:, 0] / values[:, -1])
    return float((values**2).mean()), float(spread)


def check(data: Data) -> None:
    """30 layers trained here and by `fit`, from the same kernels, in the same order."""
    from support.scanned import Trainer, stacked

    rows = []
    for activation in ACTIVATIONS:
        model = plain("dense", activation, 30)
        STARTS["LSUV"](model, data, 0)
        xs, ys = (a[:2000].reshape(20, BATCH, -1) for a in (data.x, data.y))
        weights = stacked(model.get_weights())
        _, losses = Trainer(activation, 1e-4).train(weights, xs, ys[..., 0])
        # What fit shows is the mean over the batches so far.
        here = np.cumsum(losses) / np.arange(1, 21)
        seen: list[float] = []
        model.compile(
            keras.optimizers.Adam(1e-4),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        note = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda _, logs, seen=seen: seen.append(logs["loss"])
        )
        options = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
        model.fit(data.x[:2000], data.y[:2000], callbacks=[note], **options)
        worst = float(np.abs(here / np.asarray(seen) - 1).max())
        rows.append([activation, float(here[-1]), float(seen[-1]), worst])
    tables.print_table(["30 layers", "loop", "fit", "worst ratio - 1"], rows)


# Rows in a file, so that an interrupted run goes on where it stopped.


def read(path: Path) -> list[Row]:
    """The rows found so far."""
    if not path.exists():
        return []
    kinds: list[Any] = [str, int, str, str, int, float, float, float, float, str]
    lines = (line.split("\t") for line in path.read_text("utf-8").splitlines())
    return [
        Row(*(kind(x) for kind, x in zip(kinds, cells, strict=True))) for cells in lines
    ]


def run(arguments: argparse.Namespace) -> list[Row]:
    """Train what is not in the file of rows yet."""
    path, data = arguments.rows, mnist(arguments.data, arguments.kind)
    rows = read(path) if path else []
    # The shallow ones first: should time run out, the deepest rows are missing.
    for depth, name in itertools.product(arguments.depths, arguments.activations):
        setting = arguments.kind, depth, name
        had = [row for row in rows if row[:3] == setting]
        pairs = wanted(setting, arguments, rows)
        names = {start for _, start in pairs}
        enough = {row.start for row in had if row.accuracy < FAILED}
        enough |= {x.start for x in had if x.seed == arguments.seeds - 1}
        if names <= enough:
            continue
        for row in trained(setting, pairs, data, had):
            rows.append(row)
            line = "\t".join(map(str, row))
            print(line, file=sys.stderr, flush=True)
            if path:
                with path.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
    return rows


def print_rows(rows: list[Row]) -> None:
    """For each depth: accuracy (lowest seed), then the Jacobian at the start."""
    for kind, depth in dict.fromkeys(row[:2] for row in rows):
        here = [row for row in rows if row[:2] == (kind, depth)]
        names = list(dict.fromkeys(row.activation for row in here))
        starts = [x for x in STARTS if any(row.start == x for row in here)]
        count = 1 + max(row.seed for row in here)
        rate = RATES[kind].get(depth, 1e-4)
        seeds = "1 seed" if count == 1 else f"{count} seeds"
        print(f"{kind}, {depth} layers, {seeds}, Adam {rate:g}")
        for cell in (_accuracy, _jacobian):
            table = [
                [name, *(cell(_matching(here, name, start)) for start in starts)]
                for name in names
            ]
            tables.print_table([cell.__doc__ or "", *starts], table)


def _matching(rows: list[Row], activation: str, start: str) -> list[Row]:
    return [row for row in rows if row[2:4] == (activation, start)]


def _accuracy(rows: list[Row]) -> str:
    """accuracy (lowest)"""
    if not rows:
        return "-"
    values = [row.accuracy for row in rows]
    text = f"{statistics.mean(values):.2f}"
    text += f" ({min(values):.2f})" if len(values) > 1 else ""
    return f"{text}, {rows[0].note}" if rows[0].note not in ("", "std 1") else text


def _jacobian(rows: list[Row]) -> str:
    """mean square, spread"""
    if not rows:
        return "-"
    square, spread = (
        statistics.median(getattr(row, name) for row in rows)
        for name in ("mean_square", "spread")
    )
    return f"{square:.2g}, {spread:.3g}"


def main() -> None:
    """Print the tables."""
    parser = tables.parser(__doc__)
    parser.add_argument("--data", help="mnist.npz; by default keras.datasets.mnist")
    parser.add_argument("--kind", choices=["conv", "dense"], default="dense")
    parser.add_argument("--depths", type=int, nargs="+")
    parser.add_argument("--activations", nargs="+", choices=ACTIVATIONS)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--starts", nargs="+", choices=STARTS)
    parser.add_argument("--rows", type=Path, help="file that keeps the rows")
    parser.add_argument(
        "--skip-failed",
        action="store_true",
        help="leave out a start that learns nothing at a lesser depth",
    )
    parser.add_argument("--check", action="store_true", help="compare with fit")
    arguments = parser.parse_args()
    full = arguments.full
    arguments.depths = arguments.depths or ([30, 100, 300, 1000] if full else [30, 100])
    arguments.activations = arguments.activations or (
        ACTIVATIONS if full else ("relu", "tanh")
    )
    arguments.seeds = arguments.seeds or (3 if full else 1)
    tables.print_machine(__doc__)
    try:
        import jax  # noqa: F401
    except ImportError:
        print("Left out: it trains in JAX, which is not installed.")
        return
    sys.setrecursionlimit(100_000)  # Keras walks the graph by recursion
    with contextlib.suppress(BrokenPipeError):
        if arguments.check:
            check(mnist(arguments.data, "dense"))
        else:
            print_rows(run(arguments))


if __name__ == "__main__":
    main()
