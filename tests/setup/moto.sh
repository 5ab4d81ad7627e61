#!/usr/bin/env bash
# moto, the lab's AWS, in a virtual environment of its own; one version, because stories rely on what it does.
. "$(dirname "$0")/common.sh"

version=5.2.5
venv=$lab/venv
stamp=$venv/.moto-$version
[ -e "$stamp" ] && exit 0

command -v python3 >/dev/null || need python3=python3
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "moto $version needs Python 3.10 or newer; this is $(python3 --version)" \
  "apt-get install python3 on Debian 12 or newer"
if ! python3 -c 'import ensurepip' 2>/dev/null; then
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install python3-venv >"$lab/apt.log" 2>&1 ||
    fail "Python's venv is missing and apt-get could not install python3-venv" "apt-get install python3-venv"
fi
say "installing moto $version"
rm -rf "$venv"
python3 -m venv "$venv" || fail "python3 -m venv failed" "apt-get install python3-venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check "moto[server,ec2,autoscaling]==$version" >"$lab/pip.log" 2>&1 ||
  fail "pip could not install moto $version (see $lab/pip.log)" "check that a Python package index can be reached"
touch "$stamp"
