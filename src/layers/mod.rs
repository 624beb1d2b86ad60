//! One file a layer.
