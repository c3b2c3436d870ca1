"""The command line: what it does, what it refuses; it writes all or nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from models import normal

import keras_inits
from keras_inits.__main__ import main
from keras_inits.commands.refusal import one_line


def small(**options: Any) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6,), name="features"),
            keras.layers.Dense(5, "relu", name="first"),
            keras.layers.Dense(3, name="last"),
        ],
        name="small",
        **options,
    )


@pytest.fixture
def folder(tmp_cwd: Path) -> Path:
    """`model.keras`, `x.npz`, and a place to stand."""
    small().save("model.keras")
    np.savez("x.npz", x=5 * normal(40, 6), y=normal(40, 3))
    return tmp_cwd


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def kernels(path: str) -> list[np.ndarray[Any, Any]]:
    model = keras.saving.load_model(path)
    return [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]


# What it does


def test_list_names_every_string(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "lsuv_normal" in out
    assert out.strip() == str(keras_inits.available())


def test_report_prints_the_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "model.keras", "--data", "x.npz"]) == 0
    out = capsys.readouterr().out
    assert "Signal in 'small', 2 layers" in out
    assert "first (Dense)" in out


def test_report_as_json_is_what_measure_says(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "model.keras", "--data", "x.npz", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    model = keras.saving.load_model("model.keras")
    expected = keras_inits.measure(model, np.load("x.npz")["x"]).to_dict()
    assert found == json.loads(json.dumps(expected))


def test_report_of_gradients_and_of_chosen_layers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    what = ["report", "model.keras", "--data", "x.npz", "--json", "--samples", "8"]
    assert main([*what, "--loss", "mse", "--layer", "last"]) == 0
    [layer] = json.loads(capsys.readouterr().out)["layers"]
    assert layer["name"] == "last"
    assert layer["weight_gradient_std"] > 0
    x = np.load("x.npz")["x"]
    expected = keras_inits.measure(
        keras.saving.load_model("model.keras"), x, samples=8
    )["last"]
    assert layer["std"] == expected.std


def test_check_exits_with_1_only_where_something_is_wrong(folder: Path) -> None:
    what = ["report", "model.keras", "--data", "data.npz"]
    np.savez("data.npz", x=1e6 * normal(40, 6))
    assert main(what) == 0
    assert main([*what, "--check"]) == 1
    np.savez("data.npz", x=normal(40, 6))
    assert main([*what, "--check"]) == 0


def test_lsuv_saves_a_scaled_model_and_leaves_the_other(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("model.keras").read_bytes()
    assert main(["lsuv", "model.keras", "--data", "x.npz", "--out", "out.keras"]) == 0
    assert "LSUV of 'small'" in capsys.readouterr().out
    assert Path("model.keras").read_bytes() == before
    x = np.load("x.npz")["x"]
    report = keras_inits.measure(keras.saving.load_model("out.keras"), x)
    assert [1.0, 1.0] == pytest.approx([layer.std for layer in report], abs=1e-3)
    # The file is one that its owner may share, as any other that is saved.
    assert Path("out.keras").stat().st_mode == Path("model.keras").stat().st_mode


def test_lsuv_takes_the_options_of_lsuv_init(folder: Path) -> None:
    what = ["lsuv", "model.keras", "--data", "x.npz", "--out", "out.keras"]
    options = ["--target-std", "0.5", "--center", "--signal", "output", "--layer"]
    assert main([*what, *options, "last"]) == 0
    old, new = kernels("model.keras"), kernels("out.keras")
    np.testing.assert_array_equal(old[0], new[0])
    output = keras.saving.load_model("out.keras")(np.load("x.npz")["x"])
    output = keras.ops.convert_to_numpy(output)
    assert output.std() == pytest.approx(0.5, abs=2e-3)
    np.testing.assert_allclose(output.mean(axis=0), 0, atol=1e-3)


def test_a_picture_is_written_beside_the_rest(folder: Path) -> None:
    what = ["lsuv", "model.keras", "--data", "x.npz", "--out", "out.keras"]
    assert main([*what, "--plot", "out.png", "--theme", "dark"]) == 0
    assert Path("out.png").read_bytes().startswith(b"\x89PNG")
    what = ["report", "model.keras", "--data", "x.npz"]
    assert main([*what, "--plot", "out.svg"]) == 0
    assert "<svg" in Path("out.svg").read_text("utf-8")
    names = {"model.keras", "out.keras", "out.png", "out.svg", "x.npz"}
    assert names == {p.name for p in folder.iterdir()}


def test_force_overwrites_even_the_model_itself(folder: Path) -> None:
    before = kernels("model.keras")
    what = ["lsuv", "model.keras", "--data", "x.npz", "--out", "model.keras"]
    assert main(what) == 2
    assert main([*what, "--force"]) == 0
    assert (kernels("model.keras")[0] != before[0]).any()


def test_a_compiled_and_trained_model_keeps_its_optimizer(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = small(), np.load("x.npz")
    model.compile("adam", "mse")
    model.fit(data["x"], data["y"], batch_size=40, verbose=0)
    model.save("model.keras")
    assert main(["lsuv", "model.keras", "--data", "x.npz", "--out", "out.keras"]) == 0
    assert "has been trained for 1 steps" in capsys.readouterr().err
    again = keras.saving.load_model("out.keras")
    assert int(again.optimizer.iterations.value) == 1


def test_batches_that_an_optimizer_accumulates_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small()
    model.compile(keras.optimizers.SGD(gradient_accumulation_steps=100), "mse")
    model.fit(normal(40, 6), normal(40, 3), batch_size=8, verbose=0)
    model.save("model.keras")
    assert main(["lsuv", "model.keras", "--data", "x.npz", "--out", "out.keras"]) == 0
    assert "has been trained for 5 steps" in capsys.readouterr().err


def two_inputs() -> keras.Model:
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    both = keras.layers.Concatenate()([left, right])
    return keras.Model([left, right], keras.layers.Dense(2, name="both")(both))


def test_arrays_are_found_by_input_name_by_x_or_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def std(*arguments: str) -> float:
        assert main(["report", *arguments, "--json"]) == 0
        found: float = json.loads(capsys.readouterr().out)["layers"][0]["std"]
        return found

    x = np.load("x.npz")["x"]
    expected = std("model.keras", "--data", "x.npz")
    np.save("x.npy", x)
    np.savez("alone.npz", anything=x)
    np.savez("named.npz", features=x, x=0 * x, other=0 * x)
    for name in ("x.npy", "alone.npz", "named.npz"):
        assert std("model.keras", "--data", name) == expected
    model, parts = two_inputs(), {"right": normal(9, 4), "left": 9 * normal(9, 4)}
    model.save("two.keras")
    np.savez("two.npz", **parts)
    output = keras.ops.convert_to_numpy(model([parts["left"], parts["right"]]))
    assert std("two.keras", "--data", "two.npz") == pytest.approx(output.std(), 1e-5)


def several(structure: Any, widths: dict[str, int]) -> keras.Model:
    """A model of inputs in this structure of their names."""
    made = keras.tree.map_structure(
        lambda name: keras.Input((widths[name],), name=name), structure
    )
    parts = [keras.layers.Dense(8)(x) for x in keras.tree.flatten(made)]
    both = keras.layers.Concatenate()(parts)
    return keras.Model(made, keras.layers.Dense(3, name="last")(both), name="several")


STRUCTURES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "list": (["c", "a", "b"], ("c", "a", "b")),
    "list within a list": (["c", ["a", "b"]], ("c", "a", "b")),
    "dict": ({"c": "c", "a": "a", "b": "b"}, ("c", "a", "b")),
    "dict within a dict": ({"c": "c", "t": {"z": "a", "y": "b"}}, ("c", "t/z", "t/y")),
    "list within a dict": ({"c": "c", "t": ["a", "b"]}, ("c", "t/0", "t/1")),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_arrays_of_several_inputs_are_found_by_name(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    structure, names = STRUCTURES[name]
    widths = {"c": 4, "a": 5, "b": 6}
    model = several(structure, widths)
    model.save("several.keras")
    arrays = [normal(40, width, seed=width) for width in widths.values()]
    batch = keras.tree.map_structure(lambda x: arrays[list(widths).index(x)], structure)
    expected = keras_inits.measure(model, batch)["last"].std
    report = ["report", "several.keras", "--data", "data.npz", "--json"]

    def shown() -> float:
        found = json.loads(capsys.readouterr().out)["layers"]
        return float(next(x["std"] for x in found if x["name"] == "last"))

    # In any order, and beside others.
    by_name = dict(zip(names, arrays, strict=True))
    np.savez("data.npz", **dict(reversed(by_name.items())), more=normal(3))
    assert main(report) == 0
    assert expected == pytest.approx(shown(), rel=1e-6)
    what = ["lsuv", "several.keras", "--data", "data.npz", "--out", "out.keras"]
    assert main(what) == 0
    capsys.readouterr()
    np.savez("data.npz", *arrays)
    if name.startswith("list") and "dict" not in name:
        assert main(report) == 0
        assert expected == pytest.approx(shown(), rel=1e-6)
    else:
        assert main(report) == 2
    del by_name[names[1]]
    np.savez("data.npz", **by_name)
    assert main(report) == 2
    said = capsys.readouterr().err
    assert f"data.npz must hold {', '.join(map(repr, names))}; missing: " in said
    assert f"missing: {names[1]!r}. Received: " in said


def two_outputs(as_dict: bool) -> keras.Model:
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, "relu", name="hidden")(inputs)
    price = keras.layers.Dense(1, name="price")(hidden)
    kind = keras.layers.Dense(3, "softmax", name="kind")(hidden)
    outputs = {"p": price, "k": kind} if as_dict else [price, kind]
    return keras.Model(inputs, outputs, name="two")


@pytest.mark.parametrize("as_dict", [False, True], ids=["list", "dict"])
def test_each_of_several_outputs_has_its_labels_and_its_loss(
    tmp_cwd: Path, as_dict: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    p, k = ("p", "k") if as_dict else ("price", "kind")
    model, x, price = two_outputs(as_dict), normal(40, 6), normal(40, 1)
    kind = np.arange(40) % 3
    model.save("two.keras")
    np.savez("xy.npz", **{"x": x, f"y/{k}": kind, f"y/{p}": price})
    what = ["report", "two.keras", "--data", "xy.npz", "--json"]
    crossentropy = "sparse_categorical_crossentropy"

    def shown(*losses: str) -> Any:
        assert main([*what, *(x for loss in losses for x in ("--loss", loss))]) == 0
        return json.loads(capsys.readouterr().out)

    def told(labels: Any, loss: Any) -> Any:
        return json.loads(json.dumps(measured(labels, loss)))

    def measured(labels: Any, loss: Any) -> Any:
        order = [p, k]
        if not as_dict:
            labels, loss = ([part.get(x) for x in order] for part in (labels, loss))
        return keras_inits.measure(model, x, labels, loss=loss).to_dict()

    both = {p: "mse", k: crossentropy}
    found = shown(f"{k}={crossentropy}", f"{p}=mse")
    assert found == told({p: price, k: kind}, both)
    assert len(found["losses"]) == 2
    assert shown(f"{p}=mse") == told({p: price}, {p: "mse"})
    # One loss for all.
    np.savez("xy.npz", **{"x": x, f"y/{k}": normal(40, 3), f"y/{p}": price})
    expected = told({p: price, k: normal(40, 3)}, {p: "mse", k: "mse"})
    assert shown("mse") == expected


SEVERAL = {
    "an output that is none": (["cost=mse"], "of 'two' are 'price', 'kind'. Received"),
    "a loss beside one by name": (["price=mse", "mse"], "one loss, or OUTPUT=LOSS"),
    "one output twice": (["price=mse", "price=mae"], "once for each output. Received"),
    "a loss that is none": (["price=luss"], "name of a Keras loss. Received: 'luss'"),
    "no labels for one": (["mse"], "'y/price', 'y/kind' in x.npz; missing: 'y/kind'"),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_losses_of_several_outputs_that_are_refused(
    tmp_cwd: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    losses, reason = SEVERAL[name]
    two_outputs(False).save("two.keras")
    np.savez("x.npz", **{"x": normal(40, 6), "y/price": normal(40, 1)})
    typed = [x for loss in losses for x in ("--loss", loss)]
    assert main(["report", "two.keras", "--data", "x.npz", *typed]) == 2
    said = capsys.readouterr().err
    assert reason in said and len(said.splitlines()) == 1


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".weights.h5"])
def test_what_is_advised_for_an_hdf5_file_runs(
    folder: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keras does not find the loss "mse" again; an initializer it does not know."""
    model = small()
    model.layers[0].kernel_initializer = keras_inits.LSUVNormal()
    model.compile("adam", "mse", metrics=["mae"])
    save = model.save_weights if "weights" in suffix else model.save
    save(f"old{suffix}")
    assert main(["report", f"old{suffix}", "--data", "x.npz"]) == 2
    said = capsys.readouterr().err
    if "weights" in suffix:
        assert "it holds weights alone" in said
        return
    code = said.split("in Python: ")[1]
    exec(f"import keras; {code}", {})
    assert main(["report", "model.keras", "--data", "x.npz"]) == 0


# What it refuses


@keras.saving.register_keras_serializable("elsewhere")
class Elsewhere(keras.layers.Layer):
    """A layer of a package that the command line does not import."""

    def call(self, x: Any) -> Any:
        return 2 * x


def custom_class() -> None:
    keras.Sequential([keras.Input((6,)), Elsewhere()]).save("model.keras")
    keras.saving.get_custom_objects().pop("elsewhere>Elsewhere", None)


def code_in_the_model() -> None:
    layer = keras.layers.Lambda(lambda x: 2 * x, output_shape=(6,))
    keras.Sequential([keras.Input((6,)), layer]).save("model.keras")


def zeros() -> None:
    model = small()
    model.layers[0].kernel.assign(np.zeros((6, 5), "float32"))
    model.save("model.keras")


def without_kernels() -> None:
    keras.Sequential([keras.Input((6,)), keras.layers.ReLU()]).save("model.keras")


def frozen() -> None:
    model = small()
    model.trainable = False
    model.save("model.keras")


def objects_in_an_npz() -> None:
    np.savez("x.npz", x=np.array([{}, 1], dtype=object))


def objects_in_an_npy() -> None:
    np.save("x.npy", np.array([{}, 1], dtype=object))
    os.replace("x.npy", "x.npz")


def many_arrays() -> None:
    np.savez("x.npz", a=normal(4, 6), b=normal(4, 6))


def text(name: str, content: str = "no such thing") -> Callable[[], None]:
    return lambda: (Path(name).unlink(), Path(name).write_text(content), None)[-1]


def shape(*sizes: int) -> Callable[[], None]:
    return lambda: np.savez("x.npz", x=normal(*sizes))


def values(value: float) -> Callable[[], None]:
    return lambda: np.savez("x.npz", x=np.full((4, 6), value))


def truncated() -> None:
    content = Path("x.npz").read_bytes()
    Path("x.npz").write_bytes(content[: len(content) // 2])


def gone(name: str) -> Callable[[], None]:
    return lambda: Path(name).unlink()


def nothing() -> None:
    """The files are as they should be."""


def occupied(name: str) -> Callable[[], None]:
    return lambda: (Path(name).write_text("mine"), None)[-1]


REFUSALS: dict[str, tuple[Callable[[], Any], list[str], str]] = {
    "no model": (gone("model.keras"), [], "no such file: model.keras"),
    "no data": (gone("x.npz"), [], "no such file: x.npz"),
    "a model that is none": (text("model.keras"), [], "not a model in Keras's .keras"),
    "a custom class": (custom_class, [], "custom class 'Elsewhere'"),
    "code": (code_in_the_model, [], "never turns safe mode off"),
    "data that are none": (text("x.npz"), [], "not a readable .npz or .npy"),
    "empty data": (text("x.npz", ""), [], "not a readable .npz or .npy"),
    "truncated data": (truncated, [], "not a readable .npz or .npy"),
    "objects": (objects_in_an_npz, [], "Python objects, which is never unpickled"),
    "objects in .npy": (objects_in_an_npy, [], "Python objects"),
    "which array": (many_arrays, [], "must hold 'x', or a single array"),
    "wrong shape": (shape(4, 7), [], "takes shape (None, 6)"),
    "wrong rank": (shape(4, 6, 1, 1), [], "takes shape (None, 6)"),
    "no rows": (shape(0, 6), [], "holds no rows"),
    "unknown layer": (nothing, ["--layer", "furst"], "Did you mean 'first'"),
    "picture of text": (nothing, ["--plot", "signal.txt"], ".png or .svg"),
    "a folder": (nothing, ["--plot", "."], "must end in .png"),
    "no folder": (nothing, ["--plot", "no/signal.png"], "No such file or directory"),
    "existing picture": (occupied("a.png"), ["--plot", "a.png"], "--force overwrites"),
    "samples": (nothing, ["--samples", "0"], "at least 1, is required"),
    "unknown option": (nothing, ["--sample-count", "3"], "unrecognized arguments"),
}
ONLY_LSUV = {
    "constant data": (values(1.0), [], "`data` is constant"),
    "NaN": (values(np.nan), [], "not finite"),
    "a kernel of zeros": (zeros, [], "command line: --layer with the names of the"),
    "no kernels": (without_kernels, [], "can be scaled: none has a kernel"),
    "frozen": (frozen, [], "first (skipped: frozen), last (skipped: frozen)"),
    "existing model": (occupied("out.keras"), [], "out.keras exists; --force"),
    "target": (nothing, ["--target-std", "big"], "a positive number or 'critical'"),
    "negative target": (nothing, ["--target-std", "-1"], "must be a positive number"),
    "out twice": (nothing, ["--out", "no_suffix"], "no_suffix must end in .keras"),
}
ONLY_REPORT = {
    "unknown loss": (nothing, ["--loss", "luss"], "name of a Keras loss"),
    "no labels": (shape(4, 6), ["--loss", "mse"], "as 'y' in x.npz"),
}


def cases() -> list[Any]:
    return [
        pytest.param(command, *case, id=f"{command}: {name}")
        for command, more in (("lsuv", ONLY_LSUV), ("report", ONLY_REPORT))
        for name, case in {**REFUSALS, **more}.items()
    ]


@pytest.mark.parametrize(("command", "spoil", "options", "reason"), cases())
def test_every_refusal_is_one_line_and_exit_2_and_nothing_written(
    command: str,
    spoil: Callable[[], Any],
    options: list[str],
    reason: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil()
    before = everything_in(folder)
    out = ["--out", "out.keras"] if command == "lsuv" else []
    try:
        code: Any = main([command, "model.keras", "--data", "x.npz", *out, *options])
    except SystemExit as stop:  # argparse leaves that way
        code = stop.code
    said = capsys.readouterr()
    assert code == 2
    assert reason in said.err
    assert said.err.startswith("keras-inits")
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert everything_in(folder) == before
    assert not [p for p in folder.iterdir() if p.is_dir()]


def test_a_failure_after_the_work_leaves_no_file(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two outputs, none is there when the second one cannot be written."""

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    before = everything_in(folder)
    monkeypatch.setattr(keras.Model, "save", full)
    what = ["lsuv", "model.keras", "--data", "x.npz", "--out", "out.keras"]
    assert main([*what, "--plot", "a.png"]) == 2
    assert "cannot write out.keras: No space left" in capsys.readouterr().err
    assert everything_in(folder) == before


def test_an_interrupt_leaves_no_file(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    before = everything_in(folder)
    monkeypatch.setattr(keras.Model, "save", interrupted)
    what = ["lsuv", "model.keras", "--data", "x.npz", "--out", "out.keras"]
    assert main(what) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert everything_in(folder) == before


def test_debug_shows_where(folder: Path) -> None:
    np.savez("x.npz", x=normal(4, 7))
    with pytest.raises(keras_inits.DataError, match="takes shape"):
        main(["report", "model.keras", "--data", "x.npz", "--debug"])


def test_a_link_to_the_output_stays_a_link(folder: Path) -> None:
    Path("real.keras").write_text("old")
    os.symlink("real.keras", "out.keras")
    what = ["lsuv", "model.keras", "--data", "x.npz", "--out", "out.keras"]
    assert main([*what, "--force"]) == 0
    assert Path("out.keras").is_symlink()
    assert keras.saving.load_model("real.keras").name == "small"


@pytest.mark.parametrize("command", [[], ["report"], ["lsuv"]])
def test_help_has_examples_that_parse(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from keras_inits.commands.parser import parser

    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    examples = [line.split() for line in lines if line.startswith("  keras-inits ")]
    assert len(examples) >= 3
    for words in examples:
        words = words[1 : words.index(">") if ">" in words else None]
        assert parser().parse_args(words).command == words[0]


def test_a_message_becomes_one_line() -> None:
    assert one_line("a\n  b\n\nconfig={...}") == "a b"
    assert len(one_line("x" * 1000)) == 600
    error = ValueError("a")
    error.add_note("b")
    assert one_line(error) == "a b"


def test_it_runs_as_a_module_and_loads_only_what_it_needs(folder: Path) -> None:
    program = (
        "import sys, keras; before = set(sys.modules); "
        "from keras_inits.__main__ import main; "
        "code = main(['report', 'model.keras', '--data', 'x.npz', '--json']); "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new & {'matplotlib', 'sklearn', 'pandas'}), file=sys.stderr); "
        "sys.exit(code)"
    )
    root = str(Path(keras_inits.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["title"] == "Signal in 'small'"
    assert done.stderr.splitlines()[-1] == "[]"


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"keras-inits {keras_inits.__version__}\n"


def test_an_optimizer_that_was_never_used_is_no_news(folder: Path) -> None:
    """Keras's warning, an error here, would come before the one line of a refusal."""
    model = small()
    model.compile("adam", "mse")
    model.save("model.keras")
    what = ["lsuv", "model.keras", "--data", "x.npz", "--out", "out.keras"]
    assert main(what) == 0
