"""From eager Python to a graph: record, force, prove, replay. Knows values and storages, never tensors."""
