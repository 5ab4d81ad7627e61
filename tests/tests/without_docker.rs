//! What a plain `cargo test` says about the stories it leaves out.

#[test]
#[cfg_attr(
    not(feature = "stories"),
    ignore = "the stories need Docker: run `make test`"
)]
fn stories_are_told_by_make_test() {
    assert!(cfg!(feature = "stories"));
}
