#!/bin/sh
# The main job from nothing: a fresh virtual environment, a registry on the loopback interface, and
# modelpm as its users type it. Needs Python 3.11+, and an index of Python packages for the set-up.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
registry=
trap 'status=$?; [ -z "$registry" ] || kill "$registry" 2>/dev/null || true; rm -rf "$work"; exit $status' EXIT
trap 'exit 130' INT TERM

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }
run() {
  words=
  for word in "$@"; do
    case "$word" in *" "*) word="\"$word\"" ;; esac
    words="$words $word"
  done
  say "\$$words"
  "$@"
}

say "# a fresh virtual environment"
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check "$here"
PATH="$work/venv/bin:$PATH"

say "# a registry on this machine"
python "$here/registry-fixtures/registry.py" --port 0 --llama2 >"$work/address" &
registry=$!
tries=0
until [ -s "$work/address" ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 100 ] || { echo "the registry did not start" >&2; exit 1; }
  sleep 0.1
done
address=$(cat "$work/address")
echo "$address"

export MODELPM_HOME="$work/store"
export MODELPM_DEFAULT_REGISTRY="$address/library"

run modelpm --version
run modelpm pull llama2
run modelpm list
run modelpm show llama2
run modelpm run llama2 "how do I free disk space?"
say "# a second model with the same weights: they are not fetched again"
run modelpm pull llama2:terse
run modelpm list
run modelpm rm llama2
run modelpm prune --dry-run
run modelpm prune
run modelpm run llama2:terse "how do I free disk space?"
run modelpm rm llama2:terse
run modelpm prune
say "# done"
