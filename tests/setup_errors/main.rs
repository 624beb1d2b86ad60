//! The mistakes of the page `src/docs/setup_errors.md`, each made, and the messages that it has for
//! them.
//!
//! A test looks its row up by its key, so the page and the messages cannot drift apart. What a doctor
//! finds is compared with the row's check as well.

mod builds;
mod environment;
mod lms;
mod page;
mod programs;
mod requests;
mod servers;
mod support;
mod venvs;
