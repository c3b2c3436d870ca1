"""The user's data.

| module | |
|---|---|
| `batch` | a batch from whatever `fit` accepts |
| `inputs` | what a model takes, and whether a batch is fit for it |
| `input_rows` | the data as a row of a report |
| `refusals` | what to say where a model does not take a batch |
| `indices` | inputs that number the rows of a table |
| `padding` | steps of the data that a mask leaves out |
| `normalizers` | layers that are to be adapted to data, and are not |
| `frames` | names of the columns of data frames |
| `arrays` | what lies in memory, in any structure |
"""
