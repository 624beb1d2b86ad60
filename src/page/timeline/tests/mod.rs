//! Tests of the renderers.

mod html;
mod perfetto;
mod picture;
mod samples;
mod story;
mod text;
