#!/usr/bin/env bash
# The programs that the build and the lab call: git, ssh, ip, busybox for its shell, and what the scripts here need
# themselves.
. "$(dirname "$0")/common.sh"

command -v cargo >/dev/null || fail "cargo is missing" "install Rust by rustup; rust-toolchain.toml names the version"
command -v cc >/dev/null || need cc=build-essential
need git=git ssh=openssh-client ip=iproute2 busybox=busybox
