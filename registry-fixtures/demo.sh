#!/bin/sh
# The main job from nothing: a fresh virtual environment, a registry on the loopback interface, and
# modelpm as its users type it. Needs Python 3.11+, and an index of Python packages for the set-up.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
registries=
trap 'status=$?; [ -z "$registries" ] || kill $registries 2>/dev/null || true; rm -rf "$work"; exit $status' EXIT
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

serve() { # FILE OPTION...: a registry, whose address is written to FILE
  file=$1
  shift
  python "$here/registry-fixtures/registry.py" --port 0 "$@" >"$file" &
  registries="$registries $!"
  tries=0
  until [ -s "$file" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { echo "the registry did not start" >&2; exit 1; }
    sleep 0.1
  done
  cat "$file"
}

say "# a registry on this machine"
serve "$work/address" --llama2
address=$(cat "$work/address")

# Nothing of this user's own is read or written.
export MODELPM_AUTH_FILE="$work/auth.json" DOCKER_CONFIG="$work/docker" XDG_CONFIG_HOME="$work/config"
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

say "# a private registry: without a login it refuses"
serve "$work/private" --writable --user alice:s3cret
private=$(cat "$work/private")
refused=0
run modelpm push llama2 "$private/team/llama2" || refused=$?
[ "$refused" -eq 4 ] || { echo "it should have been refused with 4, not $refused" >&2; exit 1; }
echo s3cret >"$work/password"
run modelpm login "$private" --username alice --password-stdin <"$work/password"
run modelpm push llama2 "$private/team/llama2"
run modelpm push llama2:terse "$private/team/llama2"
run modelpm tags "$private/team/llama2"
say "# into a second home: the same bytes"
run modelpm --home "$work/second" pull "$private/team/llama2"
run modelpm --home "$work/second" list
modelpm show llama2 --manifest >"$work/pushed"
modelpm --home "$work/second" show "$private/team/llama2" --manifest >"$work/pulled"
cmp "$work/pushed" "$work/pulled"
run modelpm logout "$private"

run modelpm rm llama2
run modelpm prune --dry-run
run modelpm prune
run modelpm run llama2:terse "how do I free disk space?"
run modelpm rm llama2:terse
run modelpm prune
say "# done"
