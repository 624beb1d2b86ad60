"""The programs of the tour: plain DSPy, with nothing in them about limits or about Rust."""
