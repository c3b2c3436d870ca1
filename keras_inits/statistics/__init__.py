"""Figures of tensors.

| module | |
|---|---|
| `moments` | mean and variance |
| `masked` | the same of the steps that a mask leaves |
| `reductions` | sums as each backend does them best |
| `dense_figures` | the same of small torch tensors, in few lines of Python |
| `directions` | how many directions samples lie along |
| `on_gpu` | the same of torch tensors on a GPU, one kernel each |
"""
