# What every setup script shares: where things are kept, how to say what is missing, how to install Debian packages.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
lab=${FLEETLING_LAB_DIR:-$root/target/lab}
mkdir -p "$lab/cache"

say() { printf 'lab: %s\n' "$*" >&2; }

# What is wrong, then what to do about it; nothing after it runs.
fail() {
  printf 'lab: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '  next: %s\n' "$line" >&2; done
  exit 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else fail "root is needed for: $*" "run make as root, or install sudo and allow it for $(id -un)"; fi
}

# Installs what is missing of `command=package` pairs; asks apt for nothing when all commands are there.
need() {
  local missing=() pair
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || [ -x "/usr/sbin/${pair%%=*}" ] || missing+=("${pair#*=}")
  done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || fail "these Debian packages are missing, and this is not a Debian system: ${missing[*]}" \
    "install what they contain by your system's own means"
  say "installing ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 update >"$lab/apt.log" 2>&1 || true
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 --no-install-recommends \
    install "${missing[@]}" >>"$lab/apt.log" 2>&1 || fail "apt-get could not install ${missing[*]} (see $lab/apt.log)" \
    "check the network and /etc/apt, or install them by hand: apt-get install ${missing[*]}"
}

# The Debian mirror this machine's own apt sources name.
mirror() {
  local found
  found=$(sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb (\[[^]]*\] *)?([^ ]+) .*/\2/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -E '/debian/?$' | head -n 1)
  [ -n "$found" ] || fail "no Debian mirror is named in /etc/apt" "add one; the lab builds its instances from Debian packages"
  printf '%s' "$found"
}

