"""The words that everybody uses; no I/O."""
