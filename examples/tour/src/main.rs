//! The tour.

fn main() {}
