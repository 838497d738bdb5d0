"""Memory, native code and calls: the only room that uses LLVM, and the one entry for eager execution."""
