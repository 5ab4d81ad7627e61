//! A provider written by hand, whose `update` does what a measurement wants: the manager's own test fixtures, put
//! together.

use anyhow::{Context, Result};

/// Block comments with a function's name are where its instructions go.
const PROVIDER: &str = include_str!("../../../../host/src/plugin/fixtures/provider.wat");
/// A way to the network, for `$send` and `$fetch`.
const WEB: &str = include_str!("../../../../host/src/plugin/fixtures/web.wat");

/// The component; `update` may ask http://`authority`/, which must be granted.
pub(crate) fn component(update: &str, authority: &str) -> Result<Vec<u8>> {
    let (module, instance) = ("(core module $main\n", "(instantiate $main\n");
    let web = WEB
        .replace("(;authority;)", authority)
        .replace("(;scheme;)", "0")
        .replace("(;length;)", &authority.len().to_string());
    let imports = "(import \"web\" \"send\" (func $send (result i32)))
        (import \"web\" \"fetch\" (func $fetch (result i32)))\n";
    let text = PROVIDER
        .replace(module, &format!("{web}{module}{imports}"))
        .replace(
            instance,
            "(instantiate $main (with \"web\" (instance $web))\n",
        )
        .replace("(;update;)", update);
    wat::parse_str(text).context("the fixture cannot be assembled")
}
