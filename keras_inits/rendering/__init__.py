"""What a report looks like: text, HTML, TensorBoard summaries."""

from keras_inits.rendering.html import to_html
from keras_inits.rendering.tensorboard import write_tensorboard
from keras_inits.rendering.text import print_table, shown, to_text

__all__ = ["print_table", "shown", "to_html", "to_text", "write_tensorboard"]
