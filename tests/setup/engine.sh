#!/usr/bin/env bash
# A Docker Engine that answers: the one that is there, else Debian's, installed and started.
. "$(dirname "$0")/common.sh"

answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

command -v docker >/dev/null && answers && exit 0

if [ -S /var/run/docker.sock ] && [ "$(id -u)" != 0 ] && [ ! -w /var/run/docker.sock ]; then
  fail "a Docker Engine runs here, but $(id -un) may not use it" "run make as root, or: sudo adduser $(id -un) docker, and log in again"
fi
[ "$(uname -s)" = Linux ] || fail "the lab's instances need Linux" "start a Docker Engine here, or run on Debian 12"

need docker=docker.io dockerd=docker.io iptables=iptables apparmor_parser=apparmor cgroupfs-mount=cgroupfs-mount
for _ in $(seq 50); do answers && exit 0; sleep 0.2; done # the package may have started it

pgrep -x dockerd >/dev/null && fail "a dockerd runs here but does not answer" \
  "look into its log; a second one in the same network namespace would take docker0 away from it"
say "starting dockerd (log: $lab/dockerd.log)"
as_root sh -c "setsid dockerd >'$lab/dockerd.log' 2>&1 </dev/null & echo \$! >'$lab/dockerd.pid'"
for _ in $(seq 300); do answers && exit 0; sleep 0.2; done
tail -n 5 "$lab/dockerd.log" >&2
fail "dockerd did not answer within 60 s" "read $lab/dockerd.log"
