"""What a user does with a model: one function per module, none calling another.

A folder of their own, so that no module hides the function that bears its name.
"""
