"""What happens to gradients on their way back, told from the forward pass.

| module | |
|---|---|
| `gradient_gains` | what a layer does to the size of gradients |
| `slopes` | how steep an activation is where a layer uses it |
| `probes` | what is kept of a signal to tell |
| `partners` | kernels whose units come in mirrored pairs |
"""
