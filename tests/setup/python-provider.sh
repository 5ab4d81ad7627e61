#!/usr/bin/env bash
# The provider in Python as a component: componentize-py in a virtual environment of its own, one version, and with it
# plugins/python/provider.py against wit/. A second run needs no network; without a change it builds nothing.
. "$(dirname "$0")/common.sh"

version=0.25.1
venv=$lab/componentize-py-$version
out=$lab/providers/fleeting-plugin-toy-python.wasm

command -v python3 >/dev/null || need python3=python3
if [ ! -e "$venv/.complete" ]; then
  python3 -c 'import ensurepip' 2>/dev/null || as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install python3-venv \
    >"$lab/apt.log" 2>&1 || fail "Python's venv is missing and apt-get could not install python3-venv" "apt-get install python3-venv"
  say "installing componentize-py $version"
  rm -rf "$venv"
  python3 -m venv "$venv" || fail "python3 -m venv failed" "apt-get install python3-venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "componentize-py==$version" >"$lab/pip.log" 2>&1 ||
    fail "pip could not install componentize-py $version (see $lab/pip.log)" "check that a Python package index can be reached"
  touch "$venv/.complete"
fi

if [ -e "$out" ] && [ -z "$(find "$root/plugins/python" "$root/wit" "$0" -newer "$out" -type f | head -n 1)" ]; then exit 0; fi
say "building $(basename "$out")"
# Of a copy: Python leaves its bytecode beside the source.
mkdir -p "$lab/providers/source"
cp "$root/plugins/python/provider.py" "$lab/providers/source/"
"$venv/bin/componentize-py" --quiet -d "$root/wit" -w plugin componentize -p "$lab/providers/source" provider \
  -o "$out.new" >"$lab/componentize.log" 2>&1 ||
  fail "componentize-py could not build plugins/python/provider.py (see $lab/componentize.log)" "correct what it says there"
mv "$out.new" "$out"
