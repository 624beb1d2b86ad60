//! The debug page over real HTTP.

mod access;
mod cancels;
mod hostile;
mod links;
mod live;
mod many;
mod reads;
mod support;
