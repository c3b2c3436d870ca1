"""Does `lsuv_init` gather a sharded kernel? Two JAX processes, half a kernel in each.

In MiB of one process: its shard, the batch, what it held just before the call (both,
and all libraries), and the peak during the call above that, also in multiples of the
shard. 1.0 is the new shard, which stands beside the old one until all is written; a
gathered kernel would be 2.0 more. `--full`: a kernel of 2 GiB; else 256 MiB.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_PLATFORMS"] = "cpu"

import keras
import numpy as np
from memory import resident
from support import fresh, tables

ROWS = 64
SHAPES = {"2048 MiB": (16384, 32768), "256 MiB": (8192, 8192)}
SPLITS = {"outputs": (None, "model"), "inputs": ("model", None)}
VERBS = ("lsuv_init", "initialize", "gathered")
HEADER = ("kernel", "split", "call", "shard", "batch", "held", "peak", "peak/shard")
SECONDS = 600


def high_water() -> float:
    """The most memory held since the mark was last put back, in MiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith("VmHWM")) / 1024


def peak_of(call: Any) -> tuple[float, float]:
    """Memory held before a call, and the highest during it above that, in MiB."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # nothing freed is counted as held
    Path("/proc/self/clear_refs").write_text("5")  # the mark is put back
    before = resident()
    call()
    return before, high_water() - before


def child(rank: str, port: str, shape: str, split: str, verb: str) -> None:
    """One of two processes: build, call, say the peak."""
    import jax

    jax.distributed.initialize(f"localhost:{port}", 2, int(rank))
    import keras_inits

    mesh = keras.distribution.DeviceMesh(
        (1, 2), ["batch", "model"], keras.distribution.list_devices()
    )
    layouts = keras.distribution.LayoutMap(mesh)
    layouts[".*big.*kernel"] = SPLITS[split]
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")
    )
    keras.utils.set_random_seed(0)
    inputs, outputs = SHAPES[shape]

    def model_of(inputs: int, outputs: int) -> keras.Model:
        uniform = keras.initializers.RandomUniform(-0.01, 0.01, seed=1)
        big = keras.layers.Dense(outputs, kernel_initializer=uniform, name="big")
        return keras.Sequential([keras.Input((inputs,)), big])

    def gather(model: keras.Model) -> None:
        whole = jax.sharding.NamedSharding(
            mesh.backend_mesh, jax.sharding.PartitionSpec()
        )
        kernel = model.get_layer("big").kernel.value
        jax.jit(lambda x: x, out_shardings=whole)(kernel).block_until_ready()

    x = np.random.default_rng(0).normal(size=(ROWS, inputs)).astype("float32")
    calls = {
        "lsuv_init": lambda model, x: keras_inits.lsuv_init(model, x),
        "initialize": lambda model, x: keras_inits.initialize(model, "standard_normal"),
        "gathered": lambda model, x: gather(model),
    }
    # Compilers, threads and connections are there before the count begins.
    calls[verb](model_of(64, 64), x[:, :64])
    model = model_of(inputs, outputs)
    kernel = model.get_layer("big").kernel
    kernel.value.block_until_ready()
    sharding = kernel.value.sharding

    def call() -> None:
        calls[verb](model, x)
        kernel.value.block_until_ready()  # JAX computes while Python goes on

    held, peak = peak_of(call)
    assert sharding == kernel.value.sharding
    shard = kernel.value.addressable_data(0).nbytes / 2**20
    fresh.answer(held=held, peak=peak, shard=shard)
    sys.stdout.flush()
    os._exit(0)  # JAX waits for the other process otherwise


def figures(*arguments: str) -> list[str]:
    """The last line of each of two processes."""
    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        port = str(sock.getsockname()[1])
    command = [sys.executable, __file__, "--child"]
    running = [
        subprocess.Popen(
            [*command, str(rank), port, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        found = [process.communicate(timeout=SECONDS) for process in running]
    finally:
        for process in running:
            process.kill()
    for out, err in found:
        if not out.strip():
            raise SystemExit(err[-2000:])
    return [out.strip().splitlines()[-1] for out, _ in found]


def main() -> None:
    """Print the table."""
    if sys.argv[1:2] == ["--child"]:
        return child(*sys.argv[2:])
    import json

    arguments = tables.parser(__doc__).parse_args()
    tables.print_machine(__doc__)
    rows = []
    shape = "2048 MiB" if arguments.full else "256 MiB"
    # What gathering takes is seen on the small one.
    verbs = VERBS[:2] if arguments.full else VERBS
    for split in SPLITS:
        for verb in verbs:
            found = [json.loads(x) for x in figures(shape, split, verb)]
            peak = max(x["peak"] for x in found)
            shard = found[0]["shard"]
            batch = ROWS * SHAPES[shape][0] * 4 / 2**20
            held = max(x["held"] for x in found)
            rows.append([shape, split, verb, shard, batch, held, peak, peak / shard])
    tables.print_table(HEADER, rows)


if __name__ == "__main__":
    main()
