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
{{- if and $edge.podDisruptionBudget.enabled (eq $edge.autoscaling.mode "none") (le (int $edge.replicaCount) (int $edge.podDisruptionBudget.maxUnavailable)) (gt (int $edge.replicaCount) 1) -}}
{{- fail "edge.podDisruptionBudget.maxUnavailable allows every pod to be away at once: lower it, or raise edge.replicaCount" -}}
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
{{- range $table, $keys := dict
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
{{- range list "region" "node" "log" "ready_file" -}}
{{- if hasKey $.Values.config . -}}
{{- fail (printf "config.%s is decided by the chart; values.yaml says by which value" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
