//! Pid 1 of the helper container: runs the stages that the manager sends, one at a time.

fn main() {}
