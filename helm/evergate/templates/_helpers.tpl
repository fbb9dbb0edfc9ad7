{{- define "evergate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "evergate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "evergate.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "evergate.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects pods: never a version, never a label of the user's, for selectors cannot change. */}}
{{- define "evergate.selector" -}}
app.kubernetes.io/name: {{ include "evergate.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "evergate.labels" -}}
{{ include "evergate.selector" . }}
app.kubernetes.io/part-of: evergate
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name (.root.Chart.Version | replace "+" "_") }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "evergate.image" -}}
{{- $of := .Values.image -}}
{{- $repository := $of.repository -}}
{{- if .Values.global.imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .Values.global.imageRegistry) $repository -}}
{{- end -}}
{{- if $of.digest -}}
{{- printf "%s@%s" $repository $of.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion $of.tag) -}}
{{- end -}}
{{- end -}}

{{/* Restricted PodSecurity, for every pod of this chart. */}}
{{- define "evergate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "evergate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* How long the process itself takes to end, once it was told. */}}
{{- define "evergate.deadline" -}}
{{- $drain := .Values.edge.drain -}}
{{- add $drain.drainSeconds $drain.marginSeconds -}}
{{- end -}}

{{/* From the pod's deletion to its end. */}}
{{- define "evergate.drainTotal" -}}
{{- $drain := .Values.edge.drain -}}
{{- add $drain.preStopSeconds $drain.graceSeconds (include "evergate.deadline" . | int) -}}
{{- end -}}

{{- define "evergate.terminationGrace" -}}
{{- $asked := int .Values.edge.terminationGracePeriodSeconds -}}
{{- if gt $asked 0 -}}{{ $asked }}{{- else -}}{{ include "evergate.drainTotal" . }}{{- end -}}
{{- end -}}

{{/* A rollout is stuck only when every pod in turn had its whole time. */}}
{{- define "evergate.progressDeadline" -}}
{{- $edge := .Values.edge -}}
{{- $replicas := int $edge.replicaCount -}}
{{- if ne $edge.autoscaling.mode "none" -}}{{- $replicas = int $edge.autoscaling.maxReplicas -}}{{- end -}}
{{- $at := max 1 (int $edge.strategy.maxSurge) -}}
{{- $rounds := div (add $replicas (sub $at 1)) $at -}}
{{- mul $rounds (add (include "evergate.terminationGrace" . | int) (int $edge.minReadySeconds) 60) -}}
{{- end -}}

{{/* Makes whole numbers of a table whole, in place: a values file's are floats to Helm, and TOML tells them apart. */}}
{{- define "evergate.whole" -}}
{{- $table := . -}}
{{- range $key, $value := . -}}
{{- if kindIs "map" $value -}}
{{- include "evergate.whole" $value -}}
{{- else if and (kindIs "float64" $value) (eq $value (floor $value)) -}}
{{- $_ := set $table $key (int64 $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* evergate.toml: what the chart decides, over what the user says. */}}
{{- define "evergate.config" -}}
{{- $drain := .Values.edge.drain -}}
{{- $own := dict
    "region" .Values.global.region
    "http" (dict "address" "0.0.0.0:8080" "connections_max" (int .Values.edge.connections.maxPerPod) "trusted_proxies" .Values.edge.trustedProxies)
    "grpc" (dict "address" "0.0.0.0:8081")
    "admin" (dict "address" "0.0.0.0:8082")
    "shutdown" (dict
      "grace" (printf "%ds" (int $drain.graceSeconds))
      "drain" (printf "%ds" (int $drain.drainSeconds))
      "deadline" (printf "%ds" (include "evergate.deadline" . | int)))
    "log_output" (dict "format" "json") -}}
{{- if .Values.edge.adminToken.existingSecret -}}
{{- $_ := set (get $own "admin") "token_file" "/etc/evergate/admin/token" -}}
{{- end -}}
{{- if eq .Values.redis.mode "external" -}}
{{- $redis := dict -}}
{{- if .Values.redis.external.caKey -}}{{- $_ := set $redis "ca_file" "/etc/evergate/redis/ca.crt" -}}{{- end -}}
{{- if .Values.redis.external.sentinelLoginKey -}}{{- $_ := set $redis "sentinel_login_file" "/etc/evergate/redis/sentinel-login" -}}{{- end -}}
{{- if $redis -}}{{- $_ := set $own "redis" $redis -}}{{- end -}}
{{- end -}}
{{- $control := .Values.control -}}
{{- $places := $control.external -}}
{{- if $control.enabled -}}{{- $places = include "evergate.controlPlaces" . | fromJsonArray -}}{{- end -}}
{{- if $places -}}
{{- $cluster := dict "control" $places "policies_file" "/var/lib/evergate/policies" -}}
{{- with .Values.edge.zone -}}{{- $_ := set $cluster "zone" . -}}{{- end -}}
{{- $_ := set $own "cluster" $cluster -}}
{{- $_ := set $own "control" (dict "cluster" $control.cluster) -}}
{{- end -}}
{{- $all := mergeOverwrite (deepCopy .Values.config) $own -}}
{{- include "evergate.whole" $all -}}
{{- toToml $all -}}
{{- end -}}

{{/* Where control nodes are: HOST:PORT of each pod, whose names outlive them. */}}
{{- define "evergate.controlPlaces" -}}
{{- $control := .Values.control -}}
{{- $name := printf "%s-control" (include "evergate.fullname" .) -}}
{{- $scheme := ternary "https" "http" (ne $control.tls.existingSecret "") -}}
{{- $places := list -}}
{{- range $at := until (int $control.replicaCount) -}}
{{- $ordinal := add (int $control.firstOrdinal) $at -}}
{{- $places = append $places (printf "%s://%s-%d.%s.%s.svc:8083" $scheme $name $ordinal $name $.Release.Namespace) -}}
{{- end -}}
{{- toJson $places -}}
{{- end -}}

{{/* The same with their numbers, as the group is founded: a pod's number is one above its ordinal. */}}
{{- define "evergate.controlPeers" -}}
{{- $control := .Values.control -}}
{{- $peers := $control.peers -}}
{{- if not $peers -}}
{{- range $at, $place := include "evergate.controlPlaces" . | fromJsonArray -}}
{{- $peers = append $peers (printf "%d=%s" (add (int $control.firstOrdinal) $at 1) $place) -}}
{{- end -}}
{{- end -}}
{{- toJson $peers -}}
{{- end -}}

{{/* The ports of control nodes that are named in the values: those of other releases. */}}
{{- define "evergate.farControlPorts" -}}
{{- $ports := list -}}
{{- range concat .Values.control.external .Values.control.peers -}}
{{- $ports = append $ports (regexFind "[0-9]+$" . | int) -}}
{{- end -}}
{{- toJson (uniq $ports) -}}
{{- end -}}

{{/* control.toml: what the chart decides, over what the user says. */}}
{{- define "evergate.controlConfig" -}}
{{- $control := .Values.control -}}
{{- $of := dict
    "cluster" $control.cluster
    "address" "0.0.0.0:8083"
    "data_dir" "/var/lib/evergate/control"
    "peers" (include "evergate.controlPeers" . | fromJsonArray) -}}
{{- if $control.adminToken.existingSecret -}}{{- $_ := set $of "admin_token_file" "/etc/evergate/admin/token" -}}{{- end -}}
{{- if $control.tls.existingSecret -}}
{{- $_ := set $of "ca_file" "/etc/evergate/tls/ca.crt" -}}
{{- $_ := set $of "certificate_file" "/etc/evergate/tls/tls.crt" -}}
{{- $_ := set $of "key_file" "/etc/evergate/tls/tls.key" -}}
{{- end -}}
{{- $own := dict
    "region" .Values.global.region
    "admin" (dict "address" "0.0.0.0:8082")
    "control" $of
    "shutdown" (dict "deadline" "20s")
    "log_output" (dict "format" "json") -}}
{{- $all := mergeOverwrite (deepCopy $control.config) $own -}}
{{- include "evergate.whole" $all -}}
{{- toToml $all -}}
{{- end -}}

{{- define "evergate.redisHost" -}}
{{- printf "%s-redis" (include "evergate.fullname" .) -}}
{{- end -}}
