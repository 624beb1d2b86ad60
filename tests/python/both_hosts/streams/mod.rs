//! Answers that are read as they are written.

mod aborts;
mod ends;
mod failures;
mod hostile;
mod late;
mod limits;
mod many;
mod reading;
mod shapes;
mod slow;
mod stacks;
mod sums;
mod tools;
