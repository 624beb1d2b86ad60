//! The pages as HTML.

mod call;
mod calls;
mod cells;
mod document;
mod links;
mod live_calls;
mod lms;
mod matrix;
mod samples;
mod section;
mod workers;

pub(super) use self::{
    call::{call, call_parts, not_kept},
    calls::{calls, calls_parts},
    links::PageLinks,
    samples::samples,
    section::Part,
};
