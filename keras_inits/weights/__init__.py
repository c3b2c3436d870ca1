"""New weights: drawn, tried in a pass, and written, all of them or none.

| module | |
|---|---|
| `blocks` | a kernel drawn block by block, as its linear map sees it |
| `looks_linear` | kernels drawn for a whole stack of layers |
| `pairs` | that stack, and how far units stay in pairs on their way through it |
| `twins` | weights as a layer made again from its config has them |
| `trial` | values that only the pass sees |
| `extras` | what else a drawn kernel is part of: other layers, LoRA |
| `sharing` | whether somebody else holds the array of a variable |
| `interrupts` | signals wait for what must not stay half done |
| `in_place` | kernels multiplied without a second copy of the model |
| `commit` | all or nothing, in this process and in all others |
"""
