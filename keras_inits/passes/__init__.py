"""One pass over a model as one program, or as few.

Each backend's way, behind `compiled`; where a pass does not fit any, it runs eagerly.

| module | |
|---|---|
| `compiled` | a whole pass compiled |
| `programs` | those of a model, and for how long each of them serves |
| `kinds` | what its trace depends on |
| `pieces`, `steps` | a pass in pieces, of which alike ones are compiled once (JAX) |
| `xla` | programs by XLA, alike ones compiled once (JAX) |
| `tape`, `notes`, `calls` | a pass noted once and played from then on (PyTorch) |
| `packing` | the results of a program in few arrays |
"""
