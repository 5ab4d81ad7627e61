//! The stories: what a manager does in the lab, told by its log, its jobs and what is left. One binary, so that the longest do not
//! run alone; `cargo test -p fleetling-lab --features stories --test stories main_job::` tells one file's.

mod author_kit;
mod aws_credentials;
mod bad_input;
mod cancelled;
mod cloud_troubles;
mod cuts;
mod demo;
mod dind;
mod docker_keys;
mod images;
mod lab;
mod lost_connections;
mod main_job;
mod manager_life;
mod own_daemon;
mod permissions;
mod plugin_commands;
mod plugin_registry;
mod plugin_trail;
mod python_provider;
mod reload;
mod rogue_beside_job;
mod scaling;
mod scripts;
mod secured;
mod services;
mod soak;
mod ways;
mod why;
