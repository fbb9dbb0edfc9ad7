#!/usr/bin/env bash
# Renders the chart anew: deploy/k8s/render.sh [HELM [FOLDER]]. The edges go into `base`, the control group, of which a
# cluster has one however many centres it has, into `control`. A test compares them with the chart.
set -euo pipefail
cd "$(dirname "$0")"
helm=${1:-helm}
folder=${2:-.}
mkdir -p "$folder/base" "$folder/control"
rendered=$("$helm" template evergate ../../helm/evergate --namespace evergate -f values.yaml --skip-tests --kube-version 1.33.0)

# Keeps the manifests of templates that match, or with `!` those that do not.
only() {
  echo "# Rendered from helm/evergate by deploy/k8s/render.sh: change the chart, and run that."
  awk -v which="$1" '
    function tell() { if (kept && (source ~ /\/control\//) == (which == "control")) printf "---\n%s", text }
    /^---$/ { tell(); text = ""; source = ""; kept = 1; next }
    /^# Source: / { source = $0; next }
    { text = text $0 "\n" }
    END { tell() }' <<<"$rendered" |
    sed -e 's/managed-by: Helm/managed-by: kustomize/' -e '/^ *helm.sh\/chart: /d' -e 's/[[:space:]]*$//' |
    cat -s |
    # Nor a blank line at the end, which the last template leaves.
    sed -e '${/^$/d}'
}

only edges >"$folder/base/evergate.yaml"
only control >"$folder/control/control.yaml"
