"""From plans and kernels to LLVM IR text, for a given `Target`. Begin with `emit.emit_plan`."""
