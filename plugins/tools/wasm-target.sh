#!/usr/bin/env bash
# Makes the wasm32-wasip2 target available: rustup first, Debian's sources of the same compiler where rustup cannot download.
#
# The second way takes `rust-src` and `wasi-libc` from Debian's trixie-backports, through whatever mirror this machine's
# own apt sources name, and builds the standard library once (about 30 s). Nothing is installed on the system; the only
# thing written outside a temporary directory is the target's folder inside the active Rust toolchain.
set -euo pipefail

target=wasm32-wasip2
sysroot=$(rustc --print sysroot)
lib="$sysroot/lib/rustlib/$target/lib"
release=$(rustc --version | cut -d' ' -f2)

fail() { printf 'wasm-target: %s\n' "$@" >&2; exit 1; }
present() { compgen -G "$lib/libstd-*.rlib" >/dev/null; }

present && exit 0

if command -v rustup >/dev/null && timeout 120 rustup target add "$target" >/dev/null 2>&1 && present; then
  exit 0
fi

printf 'wasm-target: rustup cannot download %s here; building it from Debian packages\n' "$target"
command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail \
  "the Rust target $target is missing, rustup could not download it, and this is not a Debian system" \
  "next: run 'rustup target add $target' where rustup's downloads work"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The machine's own mirror, another suite, in a private apt configuration.
mirror=$(sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb (\[[^]]*\] *)?([^ ]+) .*/\2/p' \
  /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -E '/debian/?$' | head -n 1)
[ -n "$mirror" ] || fail "no Debian mirror is named in /etc/apt" "next: run 'rustup target add $target' where it works"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || fail "$keyring is missing" "next: apt-get install debian-archive-keyring"

mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
printf 'deb [signed-by=%s] %s trixie-backports main\n' "$keyring" "$mirror" >"$work/sources.list"
apt=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
  -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none)
apt-get -qq "${apt[@]}" update || fail "could not read Debian's trixie-backports" \
  "next: check the network, or run 'rustup target add $target' where rustup's downloads work"

version=$(apt-cache "${apt[@]}" madison rust-src | awk '{print $3}' | grep -E "^${release//./\\.}[+-]" | head -n 1)
[ -n "$version" ] || fail "trixie-backports has no rust-src for Rust $release" \
  "next: use the toolchain that rust-toolchain.toml names, or run 'rustup target add $target' where it works"
(cd "$work" && apt-get -qq "${apt[@]}" download "rust-src=$version" wasi-libc) || fail "could not download rust-src $version and wasi-libc"
for package in "$work"/*.deb; do dpkg -x "$package" "$work/root"; done

sources="$sysroot/lib/rustlib/src/rust/library"
if [ ! -d "$sources/std" ]; then
  mkdir -p "$(dirname "$sources")"
  cp -r "$work/root/usr/src/rustc-$release/library" "$sources"
fi
mkdir -p "$lib/self-contained"
cp "$work"/root/usr/lib/$target/{crt1-command.o,crt1-reactor.o,libc.a} "$lib/self-contained/"

mkdir -p "$work/empty/src"
printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2024"\n[lib]\ncrate-type = ["cdylib"]\n[workspace]\n' >"$work/empty/Cargo.toml"
: >"$work/empty/src/lib.rs"
(cd "$work/empty" && RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes CARGO_TARGET_DIR="$work/target" \
  cargo build --quiet --release --target $target -Zbuild-std=std,panic_abort) || fail "the standard library for $target did not build"
find "$work/target/$target/release/deps" -name '*.rlib' ! -name 'libempty*' -exec cp {} "$lib/" \;
present || fail "the standard library for $target was built but not found afterwards"
printf 'wasm-target: %s is ready for Rust %s\n' "$target" "$release"
