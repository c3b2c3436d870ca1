"""What `measure` sees in one pass, as the rows of a report.

| module | |
|---|---|
| `recorder` | what is recorded at each stop |
| `one_pass` | runs the sweep, eagerly or compiled as one |
| `rows` | a record as a row |
| `weight_gradients` | the gradient of a loss for every kernel |
| `loss_inputs` | what a loss is given: labels and outputs, in figures |
| `logits` | outputs of which a loss takes the softmax or the sigmoid itself |
| `causes` | what a report says beside the figures: whose doing they may be |
"""
