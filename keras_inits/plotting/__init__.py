"""Pictures of a report; matplotlib is imported only when one is asked for."""

from keras_inits.plotting.depth import plot_report
from keras_inits.plotting.history import plot_history

__all__ = ["plot_history", "plot_report"]
