"""Documents from any source, one module a source, all returning the same `Document`; the split."""
