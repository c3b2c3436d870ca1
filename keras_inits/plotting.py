"""Pictures of a report; matplotlib is imported only when one is asked for."""
