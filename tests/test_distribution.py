"""Several devices and several processes, on this machine.

Each setting is a program in `tests/distributed`, which this starts (once for each
process), ends when its time is up, and reads the findings of.
"""

from __future__ import annotations

import functools
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keras
import pytest
from test_docs_howto import PRINTS, assert_says

import keras_inits
from keras_inits.distribution.peers import Peers, patience
from keras_inits.errors import DistributionError, KerasInitsError

pytestmark = pytest.mark.any_keras

PROGRAMS = Path(__file__).parent / "distributed"
# Seconds for one setting, of which most pass with imports and compilation: a bound on
# what a hang costs, not a claim.
LIMIT = 240

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a setting of TensorFlow"
)
on_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="a setting of JAX")
on_torch = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="a setting of PyTorch"
)


@functools.cache
def found(
    program: str, processes: int = 1, *arguments: str, survivors: int | None = None
) -> list[dict[str, Any]]:
    """What each process that lives to the end has found."""
    file = str(PROGRAMS / f"{program}.py")
    outputs = run(file, processes, arguments, devices=4 if program == "sharded" else 2)
    return [_said(x) for x in outputs[: survivors or processes]]


def run(
    file: str, processes: int, arguments: tuple[str, ...] = (), devices: int = 2
) -> list[str]:
    """What each process has printed."""
    ports = [_free_port() for _ in range(processes)]
    running = [
        subprocess.Popen(
            [sys.executable, file, str(rank), str(ports[0]), *arguments],
            env=_environment(rank, ports, devices),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ]
    end = time.monotonic() + LIMIT
    outputs = []
    try:
        for process in running:
            outputs.append(process.communicate(timeout=end - time.monotonic())[0])
    except subprocess.TimeoutExpired as error:
        shown = error.stdout or b""
        pytest.fail(f"{file} hangs: {shown[-3000:].decode(errors='replace')}")
    finally:
        for process in running:
            process.kill()  # JAX does not listen to a polite signal
            process.wait()
    return outputs


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        port: int = sock.getsockname()[1]
        return port


def _environment(rank: int, ports: list[int], devices: int) -> dict[str, str]:
    """What a launcher of each backend sets, and one thread for each process."""
    workers = {"worker": [f"localhost:{port}" for port in ports]}
    task = {"cluster": workers, "task": {"type": "worker", "index": rank}}
    addresses = ",".join(workers["worker"])
    own = {
        "CUDA_VISIBLE_DEVICES": "",
        "DUMP_AFTER": str(LIMIT - 20),
        "JAX_PLATFORMS": "cpu",
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": addresses,
        "KERAS_DISTRIBUTION_NUM_PROCESSES": str(len(ports)),
        "KERAS_DISTRIBUTION_PROCESS_ID": str(rank),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(ports[0]),
        # Threads of XLA's pools. With no more of them than devices, operations one by
        # one may wait for each other for ever, in plain JAX too.
        "NPROC": "16",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(keras_inits.__file__).parent.parent),
        "RANK": str(rank),
        "WORLD_SIZE": str(len(ports)),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    if len(ports) > 1:
        own["TF_CONFIG"] = json.dumps(task)
    return {**os.environ, **own}


def _said(output: str) -> dict[str, Any]:
    lines = [x for x in output.splitlines() if x.startswith("FOUND ")]
    if not lines:
        pytest.fail(f"A process found nothing: {output[-3000:]}")
    said: dict[str, Any] = json.loads(lines[-1].removeprefix("FOUND "))
    return said


def assert_refused(refusal: Any, kind: str, message: str) -> None:
    """An error of this class that says this."""
    assert refusal is not None, "nothing was raised"
    assert (kind, True) == (refusal[0], message in refusal[1]), refusal


def assert_one(values: list[Any]) -> None:
    """All processes have found the same."""
    assert [values[0]] * len(values) == values


# --- MirroredStrategy -------------------------------------------------------------


@on_tensorflow
def test_mirrored_replicas_agree() -> None:
    (seen,) = found("mirrored")
    assert [] == seen["apart outside"] == seen["apart inside"]
    assert 1.0 == pytest.approx(seen["deviation"], abs=1e-4)
    assert 3 == seen["measured"]


@on_tensorflow
@pytest.mark.parametrize("call", ["lsuv_init", "initialize", "compiled"])
def test_a_single_replica_is_refused(call: str) -> None:
    (seen,) = found("mirrored")
    assert_refused(seen[f"{call} refused"], "DistributionError", "inside strategy.run")
    assert seen["as before"]


@on_tensorflow
@pytest.mark.parametrize("how", ["fit", "fit on data"])
def test_the_callback_under_replicas(how: str) -> None:
    """Keras itself lets moving statistics of replicas drift apart, LSUV or not."""
    (seen,) = found("mirrored")
    assert [1.0] * 3 == pytest.approx(seen[how], abs=1e-4)
    assert seen["apart after plain fit"] == seen[f"apart after {how}"]
    drifting = ["norm/moving_mean", "norm/moving_variance"]
    assert drifting == seen["apart after plain fit"]


@on_tensorflow
@pytest.mark.parametrize("kind", ["first step", "first step, synchronised"])
def test_training_statistics_are_those_of_the_first_step(kind: str) -> None:
    """Of each replica by itself, or of all where the layer is synchronised.

    Three rows for each replica: with the others' statistics the deviation would be off
    by some per cent.
    """
    (seen,) = found("mirrored")
    assert 1.0 == pytest.approx(seen[kind][0], abs=1e-5)


# --- Several processes, each with a copy of the model -------------------------------

COPIES = [
    pytest.param("multiworker", marks=on_tensorflow),
    pytest.param("ddp", marks=on_torch),
]


@pytest.mark.parametrize("program", COPIES)
def test_copies_agree_although_their_data_differ(program: str) -> None:
    first, second = found(program, 2)
    keys = ["lsuv_init", "orthonormal", "initialize", "trained", "scales"]
    for key in [*keys, *(["built", "reset"] if program == "multiworker" else [])]:
        assert_one([first[key], second[key]])
    assert first["lsuv_init"] != first["built"]


@pytest.mark.parametrize("program", COPIES)
def test_the_first_process_decides(program: str) -> None:
    for seen in found(program, 2):
        assert 1.0 == pytest.approx(seen["on first data"], abs=1e-4)


@pytest.mark.parametrize("program", COPIES)
def test_a_process_that_fails_stops_all(program: str) -> None:
    first, second = found(program, 2)
    key = "NaN in process 1"
    assert_refused(first[key], "DistributionError", "process 1 failed")
    assert_refused(second[key], "DegenerateDataError", "not finite")
    assert first["as before a failure"] and second["as before a failure"]


@pytest.mark.parametrize("program", COPIES)
def test_a_process_that_is_late_is_not_waited_for(program: str) -> None:
    for seen in found(program, 2):
        assert_refused(seen["late"], "DistributionError", "KERAS_INITS_TIMEOUT")
        assert seen["as before a late one"]


@pytest.mark.parametrize("program", COPIES)
def test_a_process_that_dies_is_not_waited_for(program: str) -> None:
    (first,) = found(program, 2, "dying", survivors=1)
    assert_refused(first["dead"], "DistributionError", "2 processes")
    assert first["as before a death"]


@pytest.mark.parametrize("program", COPIES)
def test_without_waiting_each_process_is_on_its_own(program: str) -> None:
    for seen in found(program, 2):
        assert 1.0 == pytest.approx(seen["alone"], abs=1e-4)


@on_torch
def test_wrapping_in_parallel_changes_nothing() -> None:
    first, second = found("ddp", 2)
    assert_one([first["wrapped"], second["wrapped"]])
    assert_one([first["fit: scale"], second["fit: scale"]])


@on_torch
def test_processes_that_make_different_calls_are_told() -> None:
    for seen in found("ddp", 2):
        assert_refused(seen["another call"], "DistributionError", "the same calls")


@on_torch
def test_a_process_that_cannot_write_stops_all() -> None:
    first, second = found("ddp", 2)
    key = "no room in process 1"
    assert_refused(first[key], "DistributionError", "no room")
    assert_refused(second[key], "KerasInitsError", "no room")


# --- keras.distribution -------------------------------------------------------------


@on_jax
@pytest.mark.parametrize("kind", ["DataParallel", "ModelParallel"])
def test_layouts_are_kept(kind: str) -> None:
    (seen,) = found("sharded")
    assert (4, kind == "ModelParallel") == (seen[kind]["spread"], seen[kind]["split"])
    for key in (
        "kept",
        "in its memory",
        "kept by all",
        "fit: kept",
        "fit on data: kept",
    ):
        assert seen[kind][key], key


@on_jax
@pytest.mark.parametrize("kind", ["DataParallel", "ModelParallel"])
def test_several_devices_find_what_one_finds(kind: str) -> None:
    (seen,) = found("sharded")
    assert seen[kind]["as on one device"] < 1e-5
    for key in ("fit", "fit on data"):
        assert [1.0] * 3 == pytest.approx(seen[kind][key], abs=1e-4)
    assert 1.0 == pytest.approx(seen[kind]["deviation"], abs=1e-4)


@on_jax
@pytest.mark.parametrize("kind", ["DataParallel", "ModelParallel", "both"])
def test_two_hosts_hold_one_model(kind: str) -> None:
    first, second = (seen[kind] for seen in found("two_hosts", 2))
    for key in ("built", "lsuv_init", "initialize", "reset", "trained", "scales"):
        assert_one([first[key], second[key]])
    for seen in (first, second):
        assert seen["kept"]
        assert 3 == seen["measured"]
        assert [1.0] * 3 == pytest.approx(seen["fit"], abs=1e-4)


@on_jax
def test_two_hosts_take_the_rows_of_the_first() -> None:
    """Whichever way the model is laid out, the scales are those of one device."""
    first, _ = found("two_hosts", 2)
    for kind in ("ModelParallel", "both"):
        assert first["DataParallel"]["scales"] == pytest.approx(
            first[kind]["scales"], rel=1e-5
        )


@on_jax
def test_jax_processes_with_copies_agree() -> None:
    """Without a distribution each process has a model of its own."""
    first, second = found("jax_copies", 2)
    for key in ("lsuv_init", "initialize", "scales"):
        assert_one([first[key], second[key]])
    assert first["built"] != second["built"]
    assert 1.0 == pytest.approx(second["on first data"], abs=1e-4)


@on_jax
def test_a_host_that_fails_stops_all() -> None:
    first, second = found("two_hosts", 2)
    key = "NaN in process 0"
    assert_refused(first[key], "DegenerateDataError", "not finite")
    assert_refused(second[key], "DistributionError", "process 0 failed")
    assert first["as before a failure"] and second["as before a failure"]


@on_jax
def test_a_host_that_is_late_is_not_waited_for() -> None:
    first, _ = found("two_hosts", 2)
    assert_refused(first["late"], "DistributionError", "KERAS_INITS_TIMEOUT")
    assert first["as before a late one"]


@on_jax
def test_a_host_that_dies_is_not_waited_for() -> None:
    (first,) = found("two_hosts", 2, "dying", survivors=1)
    assert_refused(first["dead"], "DistributionError", "2 processes")
    assert first["as before a death"]


# --- What the page on distribution shows --------------------------------------------

PAGE = Path(__file__).parent.parent / "docs" / "howto" / "distributed.md"
PROGRAM = re.compile(r"^% processes: 2, backend: (\w+)\n```py\n(.*?)^```", re.M | re.S)


def test_two_processes_print_what_the_page_says(backend: str, tmp_path: Path) -> None:
    (code,) = [
        code for name, code in PROGRAM.findall(PAGE.read_text()) if name == backend
    ]
    (tmp_path / "program.py").write_text(code)
    said = PRINTS.findall(code)
    for output in run(str(tmp_path / "program.py"), 2):
        printed = [x for x in output.splitlines() if re.match(r"\d", x)]
        assert len(said) <= len(printed), output[-3000:]
        for expected, actual in zip(said, printed[-len(said) :], strict=True):
            assert_says(expected, actual)


# --- The rest, without other processes ----------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"), [(None, 300.0), ("", 300.0), ("2.5", 2.5), ("0", 0.0)]
)
def test_the_time_limit(
    text: str | None, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KERAS_INITS_TIMEOUT", raising=False)
    if text is not None:
        monkeypatch.setenv("KERAS_INITS_TIMEOUT", text)
    assert expected == patience()


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_a_time_limit_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_INITS_TIMEOUT", text)
    with pytest.raises(KerasInitsError, match=f"Received: .*'{text}'"):
        patience()


class Crowd:
    """A channel to processes that all say what they are told to."""

    rank, count = 0, 3
    errors: tuple[type[Exception], ...] = (TimeoutError,)

    def __init__(self, says: Any) -> None:
        self.says = says

    def gather(self, words: Any) -> Any:
        return [self.says(rank, words) for rank in range(self.count)]

    def first(self, value: Any) -> Any:
        return value

    def close(self) -> None:
        """Nothing to close."""


def test_long_words_and_any_script_are_heard() -> None:
    peers = Peers(Crowd(lambda rank, words: words), 1.0, [])
    peers.meet("Schicht „erste“ " * 100)
    assert {"a": [1, None]} == peers.first_object({"a": [1, None]}, "has a result")


def test_a_channel_that_breaks_is_reported_as_such() -> None:
    def never(rank: int, words: Any) -> Any:
        raise TimeoutError("no answer")

    with pytest.raises(DistributionError, match=r"3 processes .* no answer.*TIMEOUT"):
        Peers(Crowd(never), 1.0, []).meet("begins")


def test_an_error_of_our_own_is_not_taken_for_a_silence() -> None:
    def broken(rank: int, words: Any) -> Any:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        Peers(Crowd(broken), 1.0, []).meet("begins")
