"""WebAssembly contracts: a strict scanner, the rewriting that bounds the stack, the host functions and the machine."""
