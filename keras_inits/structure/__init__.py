"""What is known of a user's model: its layers, their names, what they apply.

| module | |
|---|---|
| `walking` | every layer of a model, whatever holds it |
| `activations` | what a layer applies, by name |
| `naming` | layers as a user names them |
| `cases` | tables from names or classes of layers to what is to be done |
| `selection` | which layers are meant, and why others are not |
| `chains` | whether a model is one chain of known layers |
| `takers` | which layers take the data as they are, or before any other kernel |
| `training` | whether it has been trained |
| `heads` | which outputs of a model each layer leads to |
| `turns` | threads that share layers: one verb at a time |
"""
