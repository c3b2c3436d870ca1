"""One LSUV pass: what is asked, decided at each stop, checked and reported.

| module | |
|---|---|
| `decision` | the options, and what is decided at one stop |
| `half_precision` | what float16 and bfloat16 can hold |
| `equations` | which scale and shift meet a target |
| `solver` | the visitor: measures, solves, scales on |
| `search` | a scale that is found by trying |
| `one_pass` | runs the sweep, eagerly or compiled as one |
| `verdict` | reads the decisions; raises for a layer that cannot meet its target |
| `out_of_reach` | what to say of a layer whose output no scale brings to its target |
| `silence` | what to say of a signal that no scale gives a variance |
| `rewritten` | kernels that the next call of the model makes anew |
| `constraints` | kernels that training will not leave so |
| `sizes` | new kernels of a size that tells of the data, or of the old ones |
| `reporting` | decisions as the rows of a report |
"""
