#!/usr/bin/env bash
# Renders the chart anew into `base`: deploy/k8s/render.sh [HELM [FILE]]. A test compares the two.
set -euo pipefail
cd "$(dirname "$0")"
helm=${1:-helm}
output=${2:-base/evergate.yaml}
{
  echo "# Rendered from helm/evergate by deploy/k8s/render.sh: change the chart, and run that."
  "$helm" template evergate ../../helm/evergate --namespace evergate -f values.yaml --skip-tests --kube-version 1.33.0 |
    sed -e '/^# Source: /d' -e 's/managed-by: Helm/managed-by: kustomize/' -e '/^ *helm.sh\/chart: /d' -e 's/[[:space:]]*$//' |
    cat -s
} >"$output"
