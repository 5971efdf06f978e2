"""The operations. One file per kind:

- ``structural``: sources, movement, reductions, contraction
- ``pointwise``: one number from the numbers at one place; ``special`` has references that NumPy lacks
- ``routines``: recurrences along an axis, and the product
- ``gather``: elements at places that tensors of indices give
- ``sorting``, ``random``, ``linalg``: order, random bits, factorisations of matrices
"""
