"""What does `import keras_inits` add to `import keras`?

Both are timed in one fresh process, in this order, several times: medians. The second
column is the share of packages that Keras had not loaded already.
"""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys, time
start = time.perf_counter()
import keras
between = time.perf_counter()
before = set(sys.modules)
import keras_inits
end = time.perf_counter()
new = sorted({name.partition(".")[0] for name in set(sys.modules) - before})
print(between - start, end - between, ",".join(new))
"""
FLOOR = 50.0


def main() -> None:
    """Print the table."""
    from support import tables
    from support.timing import Timed

    parser = tables.parser(__doc__)
    rounds = 21 if parser.parse_args().full else 7
    tables.print_machine(__doc__)
    keras_times, own_times, new = [], [], ""
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", CODE], capture_output=True, text=True, check=True
        )
        first, second, new = done.stdout.split()[-3:]
        keras_times.append(float(first))
        own_times.append(float(second))
    ours, theirs = Timed(tuple(own_times)), Timed(tuple(keras_times))
    tables.print_table(
        ("import keras ms", "keras_inits adds ms", "floor ms", "ratio"),
        [[theirs.median * 1e3, ours.median * 1e3, FLOOR, ours.over(theirs)]],
    )
    third = [name for name in new.split(",") if name != "keras_inits"]
    print("Top-level packages loaded besides:", ", ".join(third) or "none")


if __name__ == "__main__":
    main()
