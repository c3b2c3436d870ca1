"""Keras's own layers called by the short way, with the same result.

| module | |
|---|---|
| `shortcuts` | layers without the checks of `Layer.__call__` |
| `products` | `W x + b` by the backend's own operations |
| `shadows` | attributes of layers replaced for a while, and put back |
| `masks` | which steps of a sequence are real |
| `time_steps` | `TimeDistributed` as one call |
"""
