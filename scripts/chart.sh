#!/usr/bin/env bash
# Renders every case of the chart anew into helm/evergate/ci/golden, and the plain manifests, with the pinned tools: after a
# change of the chart, run it and look at the difference. A test compares.
set -euo pipefail
cd "$(dirname "$0")/.."
eval "$(scripts/clients.sh)"
"${python:?}" tests/clients/python/chart.py --renew . "${helm4:?}"
deploy/k8s/render.sh "$helm4"
