"""The demo, made small: every start trains, and the table says so."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from keras_inits import demo


def test_it_prints_a_line_for_each_start_and_reloads_what_it_saves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "DEPTH", 2)
    monkeypatch.setattr(demo, "EPOCHS", 1)
    demo.run()  # 2 layers train from any start: which is better is left to chance
    out = capsys.readouterr().out
    for start in (demo.DEFAULT, *demo.STARTS):
        assert f"{start.activation:4}  {start.text}" in out
    assert "target found: " in out
    assert "predictions are the same." in out


def test_it_fails_where_a_start_is_no_better_than_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accuracies = {start: 0.9 for start in demo.STARTS} | {demo.DEFAULT: 0.2}
    monkeypatch.setattr(demo, "_saves", lambda model, x: True)
    monkeypatch.setattr(demo, "train", lambda start: (None, accuracies[start], None))
    assert demo.run() == 0
    accuracies[demo.STARTS[2]] = 0.1
    assert demo.run() == 1


def test_the_strings_of_looks_linear_make_one_linear_map(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """First, middle and last layer have what each needs."""
    monkeypatch.setattr(demo, "DEPTH", 5)
    model = demo.plain_network(demo.STARTS[1])
    model.layers[-1].activation = None
    x = np.random.default_rng(0).normal(size=(3, 64)).astype("float32")
    outputs = [ops.convert_to_numpy(model(rows)) for rows in (x, -x)]
    np.testing.assert_allclose(-outputs[0], outputs[1], atol=1e-5)
