{{- define "aiwm-supervisor.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* 52 characters: a StatefulSet's pods carry its name and a hash in a label, which ends at 63. */}}
{{- define "aiwm-supervisor.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "aiwm-supervisor.selectorLabels" -}}
app.kubernetes.io/name: {{ include "aiwm-supervisor.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "aiwm-supervisor.labels" -}}
{{ include "aiwm-supervisor.selectorLabels" . }}
{{ include "aiwm-supervisor.otherLabels" . }}
{{- end }}

{{- define "aiwm-supervisor.otherLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The annotations of an object, "own" beside those of all; nothing where there are none. */}}
{{- define "aiwm-supervisor.annotations" -}}
{{- with merge (dict) (.own | default dict) .root.Values.commonAnnotations -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The declared agents as a JSON list, whether they are given as a list or as a map by id; null in a map takes one out. */}}
{{- define "aiwm-supervisor.agents" -}}
{{- $agents := list }}
{{- if kindIs "map" .Values.agents }}
{{- range $id, $agent := .Values.agents }}
{{- if $agent }}
{{- $agents = append $agents (merge (dict) $agent (dict "id" $id)) }}
{{- end }}
{{- end }}
{{- else }}
{{- $agents = .Values.agents | default list }}
{{- end }}
{{- toJson $agents }}
{{- end }}

{{- define "aiwm-supervisor.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "aiwm-supervisor.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "aiwm-supervisor.image" -}}
{{- $image := .Values.image.repository }}
{{- with .Values.image.registry }}
{{- $image = printf "%s/%s" (trimSuffix "/" .) $image }}
{{- end }}
{{- if .Values.image.digest }}
{{- with .Values.image.tag }}
{{- $image = printf "%s:%s" $image . }}
{{- end }}
{{- printf "%s@%s" $image .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $image (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/*
What values lack that an older version of the chart has left: `helm upgrade --reuse-values` brings its defaults and no others.
Every template begins with it.
*/}}
{{- define "aiwm-supervisor.newerValues" -}}
{{- range $path, $default := .Files.Get "files/newer-values.json" | fromJson }}
{{- $at := $.Values }}
{{- $names := splitList "." $path }}
{{- range initial $names }}
{{- if not (kindIs "map" (get $at .)) }}
{{- $_ := set $at . dict }}
{{- end }}
{{- $at = get $at . }}
{{- end }}
{{- if not (hasKey $at (last $names)) }}
{{- $_ := set $at (last $names) $default }}
{{- end }}
{{- end }}
{{- end }}

{{/* Whether the registry is in PostgreSQL, and not on a volume. */}}
{{- define "aiwm-supervisor.onServer" -}}
{{- if or .Values.registryUrl.existingSecret .Values.registryUrl.url }}true{{ end }}
{{- end }}

{{/* What runs the supervisor, as kubectl has it. */}}
{{- define "aiwm-supervisor.workload" -}}
{{ include "aiwm-supervisor.onServer" . | empty | ternary "statefulset" "deployment" }}/{{ include "aiwm-supervisor.fullname" . }}
{{- end }}

{{/* How many supervisors there are at least. */}}
{{- define "aiwm-supervisor.leastReplicas" -}}
{{ .Values.autoscaling.enabled | ternary .Values.autoscaling.minReplicas .Values.replicas | int }}
{{- end }}

{{- define "aiwm-supervisor.claimTemplate" -}}
{{- if and .Values.persistence.enabled (not .Values.persistence.existingClaim) (not (include "aiwm-supervisor.onServer" .)) }}true{{ end }}
{{- end }}

{{- define "aiwm-supervisor.ownHandlers" -}}
{{- if or .Values.handlers.files .Values.handlers.existingConfigMap .Values.handlers.volume }}true{{ end }}
{{- end }}

{{/* The secret that holds the admin token, and its key. */}}
{{- define "aiwm-supervisor.adminSecret" -}}
{{- default (printf "%s-admin" (include "aiwm-supervisor.fullname" .)) .Values.adminToken.existingSecret }}
{{- end }}

{{/* A duration as the supervisor reads it (90, 90s, 15m, 24h, 7d, 1w) in seconds, rounded up. */}}
{{- define "aiwm-supervisor.seconds" -}}
{{- $text := . | toString | trim }}
{{- $unit := regexFind "[smhdw]$" $text | default "s" }}
{{- $factor := get (dict "s" 1 "m" 60 "h" 3600 "d" 86400 "w" 604800) $unit }}
{{- mulf (regexFind "^[0-9]+([.][0-9]+)?" $text | float64) (float64 $factor) | ceil | int }}
{{- end }}

{{- define "aiwm-supervisor.drainSeconds" -}}
{{- include "aiwm-supervisor.seconds" (hasKey .Values.config "DRAIN_SECONDS" | ternary .Values.config.DRAIN_SECONDS 60) }}
{{- end }}

{{/* A stop takes DRAIN_SECONDS and at most 10 more (CLOSE_SECONDS of the supervisor); only then may Kubernetes kill it. */}}
{{- define "aiwm-supervisor.leastGraceSeconds" -}}
{{- add (include "aiwm-supervisor.drainSeconds" .) 10 }}
{{- end }}

{{- define "aiwm-supervisor.graceSeconds" -}}
{{- $given := .Values.terminationGracePeriodSeconds | int }}
{{- if $given }}{{ $given }}{{ else }}{{ add (include "aiwm-supervisor.drainSeconds" .) 15 }}{{ end }}
{{- end }}

{{/* A setting as text: lists and maps as JSON, which is what the supervisor reads; numbers without an exponent. */}}
{{- define "aiwm-supervisor.settingText" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end }}
{{- end }}

{{/* A list setting, which may be given as a list, as one in JSON or with commas, with commas. */}}
{{- define "aiwm-supervisor.listText" -}}
{{- if kindIs "slice" . }}{{ join "," . }}
{{- else if hasPrefix "[" (trim .) }}{{ fromJsonArray . | join "," }}
{{- else }}{{ . }}
{{- end }}
{{- end }}

{{/* The bundled handlers that an agent may name, with commas. */}}
{{- define "aiwm-supervisor.bundledHandlers" -}}
{{- $given := "all" }}
{{- if hasKey .Values.config "BUNDLED_HANDLERS" }}
{{- $given = include "aiwm-supervisor.listText" .Values.config.BUNDLED_HANDLERS | nospace }}
{{- end }}
{{- if eq $given "all" }}assistant,command,echo,tour,webhook
{{- else if ne $given "none" }}{{ $given }}
{{- end }}
{{- end }}

{{- define "aiwm-supervisor.settings" -}}
{{- $settings := dict "ADMIN_HOST" .Values.admin.host "ADMIN_PORT" "8640" "SECRET_DIRS" "/run/secrets/agents" }}
{{- if not (include "aiwm-supervisor.onServer" .) }}
{{- $_ := set $settings "REGISTRY_URL" "sqlite+aiosqlite:////var/lib/aiwm-supervisor/supervisor.db" }}
{{- else if .Values.registryUrl.url }}
{{- $_ := set $settings "REGISTRY_URL" .Values.registryUrl.url }}
{{- end }}
{{- if include "aiwm-supervisor.ownHandlers" . }}
{{- $_ := set $settings "AGENTS_DIR" "/etc/aiwm-supervisor/handlers" }}
{{- end }}
{{- /* Over one database a Job imports them: several supervisors would do so at once. */}}
{{- if not (or (hasKey .Values.config "AGENTS_FILE") (include "aiwm-supervisor.onServer" .)) }}
{{- $_ := set $settings "AGENTS_FILE" "/etc/aiwm-supervisor/fleet/agents.yaml" }}
{{- end }}
{{- $_ := set $settings "AGENTS_PRUNE" (.Values.agentsPrune | toString) }}
{{- range $name, $value := .Values.config }}
{{- if eq $name "SECRET_DIRS" }}
{{- $_ := set $settings $name (printf "/run/secrets/agents,%s" (include "aiwm-supervisor.listText" $value)) }}
{{- else }}
{{- $_ := set $settings $name (include "aiwm-supervisor.settingText" $value) }}
{{- end }}
{{- end }}
{{- range $name, $value := $settings }}
SUPERVISOR_{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end }}

{{/* What the supervisor reads as AGENTS_FILE. JSON, which is YAML too: it keeps numbers and texts as they are. */}}
{{- define "aiwm-supervisor.fleet" -}}
{{- $agents := list }}
{{- range include "aiwm-supervisor.agents" . | fromJsonArray }}
{{- $agent := omit . "secretRef" }}
{{- with .secretRef }}
{{- $_ := set $agent "secret" (printf "file:/run/secrets/agents/%s/%s" .name (default "secret" .key)) }}
{{- end }}
{{- $agents = append $agents $agent }}
{{- end }}
{{- dict "agents" $agents | toPrettyJson }}
{{- end }}

{{/*
The Kubernetes secrets that agents name, as JSON. Each is mounted whole, in a folder of its name: an agent whose secret is
another key of one of them changes nothing of the pod.
*/}}
{{- define "aiwm-supervisor.agentSecrets" -}}
{{- $names := list }}
{{- range include "aiwm-supervisor.agents" . | fromJsonArray }}
{{- with .secretRef }}
{{- $names = append $names .name }}
{{- end }}
{{- end }}
{{- $names | uniq | sortAlpha | toJson }}
{{- end }}

{{- define "aiwm-supervisor.agentSecretVolume" -}}
agent-secrets-{{ sha256sum . | trunc 10 }}
{{- end }}

{{/* Changes when a secret that the process has in its environment does; what agents read from files needs no restart. */}}
{{- define "aiwm-supervisor.secretsChecksum" -}}
{{- $values := dict }}
{{- range list .Values.adminToken .Values.adminReadToken .Values.metricsToken .Values.secretKeys .Values.registryUrl .Values.proxy .Values.otlpHeaders }}
{{- if .existingSecret }}
{{- $found := lookup "v1" "Secret" $.Release.Namespace .existingSecret | default dict }}
{{- $_ := set $values (printf "%s/%s" .existingSecret .key) (get (get $found "data" | default dict) .key) }}
{{- end }}
{{- end }}
{{- toJson $values | sha256sum }}
{{- end }}

{{/* The variables that come from Kubernetes secrets which are there already. */}}
{{- define "aiwm-supervisor.secretsEnv" -}}
{{- range $variable, $from := dict "SUPERVISOR_ADMIN_TOKEN" .Values.adminToken "SUPERVISOR_ADMIN_READ_TOKEN" .Values.adminReadToken "SUPERVISOR_METRICS_TOKEN" .Values.metricsToken "SUPERVISOR_SECRET_KEYS" .Values.secretKeys "SUPERVISOR_REGISTRY_URL" .Values.registryUrl "SUPERVISOR_PROXY" .Values.proxy "SUPERVISOR_OTLP_HEADERS" .Values.otlpHeaders }}
{{- if $from.existingSecret }}
{{ include "aiwm-supervisor.secretEnv" (dict "variable" $variable "name" $from.existingSecret "key" $from.key) }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "aiwm-supervisor.secretEnv" -}}
- name: "{{ .variable }}"
  valueFrom:
    secretKeyRef:
      name: {{ .name | quote }}
      key: {{ .key | quote }}
{{- end }}

{{/* TCP ports that the network policy opens: those given, and those of the platform's URLs, the proxy, the traces' collector and PostgreSQL. */}}
{{- define "aiwm-supervisor.egressPorts" -}}
{{- $ports := list }}
{{- range .Values.networkPolicy.egressPorts }}
{{- $ports = append $ports (int .) }}
{{- end }}
{{- range list "API_URL" "WS_URL" "PROXY" "OTLP_ENDPOINT" }}
{{- with get $.Values.config . }}
{{- $url := urlParse . }}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) }}
{{- $ports = append $ports (int ($port | default (has $url.scheme (list "https" "wss") | ternary "443" "80"))) }}
{{- end }}
{{- end }}
{{- if include "aiwm-supervisor.onServer" . }}
{{- $found := regexFindAll ":[0-9]+[,/]" (regexReplaceAll "^[a-z+]+://([^@/]*@)?" .Values.registryUrl.url "") -1 }}
{{- range $found | default (list ":5432/") }}
{{- $ports = append $ports (int (regexFind "[0-9]+" .)) }}
{{- end }}
{{- end }}
{{- range $ports | uniq }}
- port: {{ . }}
  protocol: TCP
{{- end }}
{{- end }}
