"""vitrify: a static-graph compiler with a dynamic-graph frontend."""
