//! Real DSPy, a real HTTP server as the LM, a real clock.

mod support;

mod cancel;
mod errors;
