//! Plugins that mean harm or fail badly: each is run beside a good one, which must not feel it, and told in full.
//!
//! | what it does | the test |
//! |---|---|
//! | spins for ever, spins in `init` | `guests::spins_for_ever`, `guests::spins_in_init` |
//! | grows its memory, grows its table | `guests::grows_its_memory`, `guests::grows_its_table` |
//! | leaks resources | `guests::leaks_resources` |
//! | answers a string of 10 MB | `guests::answers_ten_megabytes` |
//! | panics; traps in the second call | `guests::panics`, `guests::complaint_23_a_trap_costs_one_call_…` |
//! | sleeps for ever on a pollable | `guests::sleeps_for_ever` |
//! | floods the log | `guests::floods_the_log` |
//! | lists unknown instances; one twice | `guests::lists_what_nobody_asked_for`, `guests::lists_an_instance_twice` |
//! | forges lines in what it says | `guests::forges_an_id`; texts: `bindings::tests::what_a_plugin_says_is_one_line_…` |
//! | fetches a host that is not granted, a port, `http://` | `network::asks_for_what_is_not_granted` |
//! | fetches what is granted, before it is trusted | `network::asks_in_its_init` |
//! | fetches a granted name that leads inside | `network::is_granted_a_name_that_leads_inside` |
//! | … that leads elsewhere the second time | `network::is_granted_a_name_that_leads_elsewhere_the_second_time` |
//! | is redirected to a host that is not granted | `network::is_redirected` |
//! | gets a header of 1 MB; a body without end; one that drips | `network::is_answered_without_measure` |
//! | fetches 100 times at once | `network::asks_a_hundred_times_at_once` |
//! | exports the wrong shape; imports what there is not | `files::is_no_provider` |
//! | imports sockets and file systems | `files::imports_what_is_empty_here` |
//! | is for a newer version; cut short; a core module | `files::is_no_provider` |
//! | is replaced while it is compiled | `files::is_replaced_while_it_is_compiled` |
//! | has the name of another in other letters | `files::has_the_name_of_another_in_capitals` |

pub(super) mod ear;
mod files;
mod guests;
mod network;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::house::{House, provider};
use super::platform::PlatformOptions;
use super::provider::Provider;
use super::report::{Digest, LoadReport};
use crate::fleet::group::InstanceGroup;

/// The longest that a good plugin may wait for a call that takes it no time: the machine that tests may be busy.
const UNAFFECTED: Duration = Duration::from_secs(5);

/// A platform with a good plugin at work.
struct Street {
    house: House,
    good: Arc<Provider>,
}

impl Street {
    async fn new() -> Self {
        Self::with("", |_| {}).await
    }

    async fn with(grants: &str, change: impl FnOnce(&mut PlatformOptions)) -> Self {
        ear::listen();
        let house = House::with(grants, change);
        let good = house.load_as("good", &provider(&[])).await;
        let good = good.expect("it is sound");
        Self { house, good }
    }

    /// What comes of `act`, while the good plugin is called over and over, and once more after it.
    async fn beside<T>(&self, act: impl Future<Output = T>) -> T {
        let mut act = std::pin::pin!(act);
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut act => break outcome,
                () = self.good_answers() => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        self.good_answers().await;
        outcome
    }

    async fn good_answers(&self) {
        let began = Instant::now();
        assert_eq!(self.good.update().await, Ok(Default::default()));
        let took = began.elapsed();
        assert!(took < UNAFFECTED, "a good plugin was held up for {took:?}");
    }

    async fn load(&self, name: &str, bytes: &[u8]) -> Result<Arc<Provider>, LoadReport> {
        self.beside(self.house.load_as(name, bytes)).await
    }

    /// The report of a plugin that must not be loaded, with what differs from run to run replaced.
    async fn refused(&self, name: &str, bytes: &[u8]) -> String {
        match self.load(name, bytes).await {
            Ok(_) => panic!("{name} was loaded"),
            Err(report) => LoadReport {
                file: report.file.map(|_| format!("plugins/{name}.wasm").into()),
                digest: report.digest.map(|_| Digest::of(b"")),
                ..report
            }
            .to_string(),
        }
    }
}
