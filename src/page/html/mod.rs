//! The pages as HTML.

mod call;
mod calls;
mod cells;
mod document;
mod links;
mod live_calls;
mod lms;
mod matrix;
mod notices;
mod samples;
mod section;
mod workers;

pub(super) use self::{
    call::{call, call_parts},
    calls::{calls, calls_parts},
    links::PageLinks,
    notices::{not_cancelled, not_kept},
    samples::samples,
    section::Part,
};
