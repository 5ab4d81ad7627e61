//! What a plain `cargo test` says about the stories it leaves out.

#[cfg(not(feature = "stories"))]
#[test]
#[ignore = "the stories need Docker and what `make setup` installs: run `make test`"]
fn stories_are_told_by_make_test() {}
