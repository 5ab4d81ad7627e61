//! The small cloud that the tests use, for `fleetling plugin check` and your own hands: `cargo run --example cloud`.

use fleetling_plugin_sdk::testing::Cloud;

fn main() {
    let cloud = Cloud::start_at(18_080, "s3cret", 5);
    println!("the cloud answers at {}; end it with Ctrl-C", cloud.url());
    cloud.stay();
}
