"""The intermediate representation: dtypes, types, primitives, graphs, kernels, plans, and their text."""
