{{/* Everything that may not be combined, in one place. Each rule says what to do instead. */}}
{{- define "evergate.validate" -}}
{{- $edge := .Values.edge -}}
{{- if and (eq .Values.redis.mode "external") (not .Values.redis.external.existingSecret) -}}
{{- fail "redis.external.existingSecret is missing: name a Secret that holds the log's URL under the key \"url\", or set redis.mode=builtin to try Evergate out" -}}
{{- end -}}
{{- if and (eq .Values.redis.mode "builtin") (ne $edge.autoscaling.mode "none") -}}
{{- fail "redis.mode=builtin is one server without a replica, for trying out; it does not go with edge.autoscaling: use redis.mode=external" -}}
{{- end -}}
{{- $total := include "evergate.drainTotal" . | int -}}
{{- $grace := include "evergate.terminationGrace" . | int -}}
{{- if lt $grace $total -}}
{{- fail (printf "edge.terminationGracePeriodSeconds is %d, but preStop + grace + drain + margin are %d: the pod would be killed in the middle of its drain; raise it, or leave it at 0" $grace $total) -}}
{{- end -}}
{{- if gt (int $edge.connections.targetPerPod) (int $edge.connections.maxPerPod) -}}
{{- fail (printf "edge.connections.targetPerPod (%d) is more than maxPerPod (%d): pods would be full before the scaler acts" (int $edge.connections.targetPerPod) (int $edge.connections.maxPerPod)) -}}
{{- end -}}
{{- if ne $edge.autoscaling.mode "none" -}}
{{- if gt (int $edge.autoscaling.minReplicas) (int $edge.autoscaling.maxReplicas) -}}
{{- fail "edge.autoscaling.minReplicas is more than maxReplicas" -}}
{{- end -}}
{{- end -}}
{{- if and (eq $edge.autoscaling.mode "keda") (not $edge.autoscaling.keda.prometheusServer) -}}
{{- fail "edge.autoscaling.keda.prometheusServer is missing: the address of the Prometheus that scrapes the edges" -}}
{{- end -}}
{{- $scaled := ne $edge.autoscaling.mode "none" -}}
{{- $least := ternary (int $edge.autoscaling.minReplicas) (int $edge.replicaCount) $scaled -}}
{{- if and $edge.podDisruptionBudget.enabled (le $least (int $edge.podDisruptionBudget.maxUnavailable)) (gt $least 1) -}}
{{- fail (printf "edge.podDisruptionBudget.maxUnavailable allows every pod to be away at once: lower it, or raise edge.%s" (ternary "autoscaling.minReplicas" "replicaCount" $scaled)) -}}
{{- end -}}
{{- if and (eq $edge.autoscaling.mode "keda") (not .Values.monitoring.serviceMonitor.enabled) (not .Values.monitoring.podMonitor.enabled) (not $edge.autoscaling.keda.scraped) -}}
{{- fail "edge.autoscaling.mode=keda scales by the edges' figures, and nothing here has them scraped: enable monitoring.serviceMonitor or monitoring.podMonitor, or set edge.autoscaling.keda.scraped=true if your Prometheus finds the pods by itself" -}}
{{- end -}}
{{- /* Kinds are known only where there is a cluster to ask; a renderer without one knows groups and versions. */ -}}
{{- if .Capabilities.APIVersions.Has "apps/v1/Deployment" -}}
{{- range list
    (list .Values.gatewayApi.enabled "gateway.networking.k8s.io/v1/HTTPRoute" "gatewayApi.enabled" "the Gateway API")
    (list (eq $edge.autoscaling.mode "keda") "keda.sh/v1alpha1/ScaledObject" "edge.autoscaling.mode=keda" "KEDA")
    (list .Values.monitoring.serviceMonitor.enabled "monitoring.coreos.com/v1/ServiceMonitor" "monitoring.serviceMonitor.enabled" "the Prometheus Operator")
    (list .Values.monitoring.podMonitor.enabled "monitoring.coreos.com/v1/PodMonitor" "monitoring.podMonitor.enabled" "the Prometheus Operator")
    (list .Values.monitoring.prometheusRule.enabled "monitoring.coreos.com/v1/PrometheusRule" "monitoring.prometheusRule.enabled" "the Prometheus Operator") -}}
{{- if and (index . 0) (not ($.Capabilities.APIVersions.Has (index . 1))) -}}
{{- fail (printf "%s needs %s, and this cluster does not know %s: install its CustomResourceDefinitions first, or turn it off" (index . 2) (index . 3) (index . 1)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (eq (int $edge.strategy.maxSurge) 0) (eq (int $edge.strategy.maxUnavailable) 0) -}}
{{- fail "edge.strategy: with maxSurge and maxUnavailable both 0 no rollout can begin" -}}
{{- end -}}
{{- if and .Values.gatewayApi.enabled (not .Values.gatewayApi.parentRefs) -}}
{{- fail "gatewayApi.parentRefs is missing: name the Gateway that the route belongs to" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.hosts is missing: name at least one host" -}}
{{- end -}}
{{- if and .Values.ingress.enabled .Values.gatewayApi.enabled -}}
{{- fail "ingress.enabled and gatewayApi.enabled are both set: choose one, or the same clients come two ways" -}}
{{- end -}}
{{- if and .Values.monitoring.serviceMonitor.enabled .Values.monitoring.podMonitor.enabled -}}
{{- fail "monitoring.serviceMonitor and monitoring.podMonitor are both enabled: every figure would be counted twice" -}}
{{- end -}}
{{- $control := .Values.control -}}
{{- if and $control.enabled $control.external -}}
{{- fail "control.enabled and control.external are both set: the edges follow one group, this release's or another one's" -}}
{{- end -}}
{{- if and $control.enabled (eq (mod (int $control.replicaCount) 2) 0) -}}
{{- fail (printf "control.replicaCount is %d: an even number survives no more losses than one less, and elects worse; use 3 or 5" (int $control.replicaCount)) -}}
{{- end -}}
{{- if and (or $control.peers (gt (int $control.firstOrdinal) 0)) (not $control.enabled) -}}
{{- fail "control.peers and control.firstOrdinal are of no use without control.enabled" -}}
{{- end -}}
{{- if and (gt (int $control.firstOrdinal) 0) (not $control.peers) -}}
{{- fail "control.firstOrdinal is for a group over several releases: name all its nodes in control.peers" -}}
{{- end -}}
{{- if and $control.enabled $control.tls.existingSecret (not (hasKey (.Values.config.cluster | default dict) "ca_file")) -}}
{{- fail "control.tls: the edges have to prove themselves, too: set config.cluster.ca_file, config.grpc.tls and config.tls, with edge.extraVolumes for the files" -}}
{{- end -}}
{{- if $control.peers -}}
{{- $numbers := list -}}
{{- range $control.peers -}}{{- $numbers = append $numbers (regexFind "^[0-9]+" .) -}}{{- end -}}
{{- range $at := until (int $control.replicaCount) -}}
{{- $number := toString (add (int $control.firstOrdinal) $at 1) -}}
{{- if not (has $number $numbers) -}}
{{- fail (printf "control.peers lacks node %s, which is a pod of this release: it would belong to no group" $number) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $table, $keys := dict
    "admin" (list "address") "control" (list "cluster" "address" "data_dir" "peers" "admin_token_file" "ca_file" "certificate_file" "key_file")
    "shutdown" (list "deadline") "log_output" (list "format") -}}
{{- range $keys -}}
{{- if hasKey (get $control.config $table | default dict) . -}}
{{- fail (printf "control.config.%s.%s is decided by the chart; values.yaml says by which value" $table .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range list "region" "node" "log" "ready_file" -}}
{{- if hasKey $control.config . -}}
{{- fail (printf "control.config.%s is decided by the chart; values.yaml says by which value" .) -}}
{{- end -}}
{{- end -}}
{{- range $table, $keys := dict
    "cluster" (list "control" "zone" "host" "policies_file") "control" (list "cluster")
    "http" (list "address" "connections_max" "trusted_proxies")
    "grpc" (list "address") "admin" (list "address")
    "shutdown" (list "grace" "drain" "deadline")
    "redis" (list "ca_file" "sentinel_login_file")
    "log_output" (list "format") -}}
{{- range $keys -}}
{{- if hasKey (get $.Values.config $table | default dict) . -}}
{{- fail (printf "config.%s.%s is decided by the chart; values.yaml says by which value" $table .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.edge.adminToken.existingSecret (hasKey (.Values.config.admin | default dict) "token_file") -}}
{{- fail "config.admin.token_file and edge.adminToken are two places for one token: keep one" -}}
{{- end -}}
{{- range list "region" "node" "log" "ready_file" -}}
{{- if hasKey $.Values.config . -}}
{{- fail (printf "config.%s is decided by the chart; values.yaml says by which value" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
