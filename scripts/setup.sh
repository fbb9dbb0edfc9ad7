#!/usr/bin/env bash
# Installs what the tests need on a Debian machine: the packages that are missing, then the pinned
# clients (see clients.sh) and servers (see servers.sh). Does nothing where everything is there already.
set -euo pipefail
cd "$(dirname "$0")/.."

# A command, and the Debian package that brings it.
needs=(
  "cc gcc"
  "curl curl"
  "chromium chromium"
  "setpriv util-linux"
  "prlimit util-linux"
  "nsenter util-linux"
  "ip iproute2"
  "unshare util-linux"
  "flock util-linux"
  "mount mount"
  "redis-server redis-server"
  "nginx nginx"
  "haproxy haproxy"
  "openssl openssl"
  "redis-cli redis-tools"
  "faketime faketime"
  "prometheus prometheus"
  "promtool prometheus"
  "podman podman"
  "crun crun"
)

# Debian keeps servers where only root's path leads.
PATH=$PATH:/usr/sbin
missing=()
for need in "${needs[@]}"; do
  read -r command package <<<"$need"
  command -v "$command" >/dev/null || missing+=("$package")
done
# Debian splits the module that makes virtual environments off from Python itself.
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)

if ((${#missing[@]})); then
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  echo "setup: missing Debian packages: ${missing[*]}"
  if ! command -v apt-get >/dev/null; then
    echo "setup: this is no Debian system; install the equivalents of these packages by hand" >&2
    exit 1
  fi
  as_root=()
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
      echo "setup: neither root nor sudo without a password here; please run:" >&2
      echo "  apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
      exit 1
    fi
    as_root=(sudo -n)
  fi
  export DEBIAN_FRONTEND=noninteractive
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

if ! command -v cargo >/dev/null; then
  echo "setup: cargo is missing; install Rust first (rust-toolchain.toml names the version)" >&2
  exit 1
fi

# A registry out of reach is not the end: the tests that need these clients say loudly that they were
# left out. Anything else is.
code=0
scripts/clients.sh || code=$?
if ((code == 75)); then
  echo "setup: a package registry is out of reach; tests with real clients will be left out" >&2
elif ((code != 0)); then
  exit "$code"
fi
code=0
scripts/servers.sh || code=$?
if ((code == 75)); then
  echo "setup: tests with servers other than Debian's Redis will be left out" >&2
elif ((code != 0)); then
  exit "$code"
fi
