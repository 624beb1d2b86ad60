//! Tests of the renderers.

mod builders;
mod html;
mod perfetto;
mod picture;
mod samples;
mod story;
mod text;
