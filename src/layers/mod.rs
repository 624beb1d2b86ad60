//! One file a layer.

mod guard;
