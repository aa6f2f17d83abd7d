{{/* All that is wrong with the values and that the schema cannot say, at once and in words. */}}
{{- define "aiwm-supervisor.validate" -}}
{{- $problems := concat
  (include "aiwm-supervisor.configProblems" . | fromJsonArray)
  (include "aiwm-supervisor.agentProblems" . | fromJsonArray)
  (include "aiwm-supervisor.storageProblems" . | fromJsonArray)
  (include "aiwm-supervisor.podProblems" . | fromJsonArray) }}
{{- if $problems }}
{{- fail (printf "these values cannot work:\n  - %s\n" (join "\n  - " $problems)) }}
{{- end }}
{{- end }}

{{- define "aiwm-supervisor.configProblems" -}}
{{- $problems := list }}
{{- $secrets := dict "ADMIN_TOKEN" "adminToken" "ADMIN_READ_TOKEN" "adminReadToken" "METRICS_TOKEN" "metricsToken" "SECRET_KEYS" "secretKeys" "OTLP_HEADERS" "otlpHeaders" }}
{{- $owned := dict
  "REGISTRY_URL" "set registryUrl for PostgreSQL; else the chart sets it for its volume"
  "ADMIN_HOST" "set admin.host"
  "AGENTS_PRUNE" "set agentsPrune"
  "ADMIN_PORT" "the container always listens on 8640; set service.port" }}
{{- if include "aiwm-supervisor.onServer" . }}
{{- $_ := set $owned "ADVERTISE_URL" "the chart sets it, for each pod its own" }}
{{- end }}
{{- range $name, $value := .Values.config }}
{{- if hasKey $secrets $name }}
{{- $problems = append $problems (printf "config.%s is a secret and would stand in a ConfigMap: put it into a Kubernetes secret and name that in %s.existingSecret" $name (get $secrets $name)) }}
{{- else if hasKey $owned $name }}
{{- $problems = append $problems (printf "config.%s: %s" $name (get $owned $name)) }}
{{- else if and (eq $name "PROXY") (contains "@" (toString $value)) }}
{{- $problems = append $problems "config.PROXY holds a password: put the URL into a Kubernetes secret and name that in proxy.existingSecret" }}
{{- end }}
{{- end }}
{{- if and (hasKey .Values.config "PROXY") .Values.proxy.existingSecret }}
{{- $problems = append $problems "config.PROXY and proxy.existingSecret say the same: give one of them" }}
{{- end }}
{{- if and (eq (toString (get .Values.config "JOURNAL_ENCRYPTION")) "true") (not .Values.secretKeys.existingSecret) }}
{{- $problems = append $problems "config.JOURNAL_ENCRYPTION needs keys: name the Kubernetes secret that holds them in secretKeys.existingSecret" }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if and (hasPrefix "SUPERVISOR_" .name) (hasKey . "value") }}
{{- $problems = append $problems (printf "extraEnv: %s with a plain value belongs into config.%s, or into a Kubernetes secret when it is one" .name (trimPrefix "SUPERVISOR_" .name)) }}
{{- end }}
{{- end }}
{{- toJson $problems }}
{{- end }}

{{/* Where in a value, however deep, a secret stands in the clear by its name: paths, in JSON. What lies in a list has the list's name. */}}
{{- define "aiwm-supervisor.plainSecrets" -}}
{{- $found := list }}
{{- $path := .path }}
{{- $name := .name }}
{{- if kindIs "map" .value }}
{{- range $key, $value := .value }}
{{- $found = concat $found (include "aiwm-supervisor.plainSecrets" (dict "path" (printf "%s.%s" $path $key) "name" $key "value" $value) | fromJsonArray) }}
{{- end }}
{{- else if kindIs "slice" .value }}
{{- range $number, $value := .value }}
{{- $found = concat $found (include "aiwm-supervisor.plainSecrets" (dict "path" (printf "%s[%d]" $path $number) "name" $name "value" $value) | fromJsonArray) }}
{{- end }}
{{- else if and (kindIs "string" .value) .value (regexMatch (include "aiwm-supervisor.secretNames" .) $name) (not (regexMatch "^(env|file|fernet):" .value)) }}
{{- $found = append $found $path }}
{{- end }}
{{- toJson $found }}
{{- end }}

{{/* What names of secrets end in: api_key, apiKey, X-Api-Key; a token, but not the tokens that are counted. */}}
{{- define "aiwm-supervisor.secretNames" -}}
(?i:(api|access|private|signing)[-_]?keys?|secrets?|passw(or)?d|passphrase|credentials?|authorization|cookie|(^|[-_])token)$|[a-z]Token$
{{- end }}

{{- define "aiwm-supervisor.agentProblems" -}}
{{- $problems := list }}
{{- $seen := dict }}
{{- if kindIs "map" .Values.agents }}
{{- range $id, $agent := .Values.agents }}
{{- if and $agent (ne (get $agent "id" | default $id) $id) }}
{{- $problems = append $problems (printf "agents.%s: its id is %s: leave it out, the key is the id" $id $agent.id) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $number, $agent := include "aiwm-supervisor.agents" . | fromJsonArray }}
{{- $where := kindIs "map" $.Values.agents | ternary (printf "agents.%s" $agent.id) (printf "agents[%d] (%s)" $number $agent.id) }}
{{- $named := get ($agent.secretRef | default dict) "name" }}
{{- if and $agent.secret (not (regexMatch "^(env:[A-Za-z_]|file:/|fernet:)" $agent.secret)) }}
{{- $problems = append $problems (printf "%s: secret would stand in a ConfigMap: put it into a Kubernetes secret and name that in secretRef, or refer to it, secret: env:AGENT_… or file:/…" $where) }}
{{- else if and $agent.secret $named }}
{{- $problems = append $problems (printf "%s: secret and secretRef both say where its secret is: give one of them" $where) }}
{{- else if not (or $agent.secret $named) }}
{{- $problems = append $problems (printf "%s: secretRef is missing: name the Kubernetes secret and the key that hold the agent's secret, secretRef: {name: agents, key: %s}" $where $agent.id) }}
{{- end }}
{{- if hasKey $seen $agent.id }}
{{- $problems = append $problems (printf "%s: the id is there twice, first in agents[%d]" $where (get $seen $agent.id)) }}
{{- else }}
{{- $_ := set $seen $agent.id $number }}
{{- end }}
{{- range include "aiwm-supervisor.plainSecrets" (dict "path" "settings" "name" "" "value" $agent.settings) | fromJsonArray }}
{{- $problems = append $problems (printf "%s: %s would stand in a ConfigMap: give a reference, env:AGENT_… with the variable in extraEnv" $where .) }}
{{- end }}
{{- $module := first (splitList ":" $agent.handler) }}
{{- $bundled := include "aiwm-supervisor.bundledHandlers" $ }}
{{- if and $.Values.handlers.files (not (contains "." $module)) (not (hasKey $.Values.handlers.files (printf "%s.py" $module))) (not (has $module (splitList "," $bundled))) }}
{{- $problems = append $problems (printf "%s: handler %s is neither among handlers.files (%s) nor among the bundled ones (%s)" $where $module (keys $.Values.handlers.files | sortAlpha | join ", ") ($bundled | default "none")) }}
{{- end }}
{{- end }}
{{- if and .Values.agents (hasKey .Values.config "AGENTS_FILE") }}
{{- $problems = append $problems "config.AGENTS_FILE and agents both declare the fleet: give one of them" }}
{{- end }}
{{- if and .Values.agentsPrune (not (or .Values.agents (hasKey .Values.config "AGENTS_FILE"))) }}
{{- $problems = append $problems "agentsPrune without agents would remove every agent there is: declare agents, or set it to false" }}
{{- end }}
{{- if not $problems }}
{{- if gt (len (include "aiwm-supervisor.fleet" .)) 1000000 }}
{{- $problems = append $problems "agents do not fit into a ConfigMap (1 MiB): declare fewer, and import the others with supervisor agents import" }}
{{- end }}
{{- end }}
{{- $given := 0 }}
{{- range list .Values.handlers.files .Values.handlers.existingConfigMap .Values.handlers.volume }}
{{- if . }}{{ $given = add $given 1 }}{{ end }}
{{- end }}
{{- if gt (int $given) 1 }}
{{- $problems = append $problems "handlers: give one of files, existingConfigMap and volume" }}
{{- end }}
{{- if and $given (hasKey .Values.config "AGENTS_DIR") }}
{{- $problems = append $problems "config.AGENTS_DIR and handlers both say where handlers are: give one of them" }}
{{- end }}
{{- toJson $problems }}
{{- end }}

{{- define "aiwm-supervisor.storageProblems" -}}
{{- $problems := list }}
{{- if include "aiwm-supervisor.onServer" . }}
{{- $problems = include "aiwm-supervisor.serverProblems" . | fromJsonArray }}
{{- else }}
{{- if gt (int .Values.replicas) 1 }}
{{- $problems = append $problems (printf "replicas is %d and the registry is SQLite: one process may use it. Set replicas to 1, which runs thousands of agents, or put the registry into PostgreSQL (registryUrl)" (int .Values.replicas)) }}
{{- end }}
{{- if .Values.autoscaling.enabled }}
{{- $problems = append $problems "autoscaling.enabled is true and the registry is SQLite, which one process may use: put it into PostgreSQL (registryUrl), or set it to false" }}
{{- end }}
{{- if .Values.backup.enabled }}
{{- if not .Values.persistence.enabled }}
{{- $problems = append $problems "backup.enabled is true and the registry is in an emptyDir, which no other pod sees: set persistence.enabled to true" }}
{{- end }}
{{- if has "ReadWriteOncePod" .Values.persistence.accessModes }}
{{- $problems = append $problems "backup.enabled is true and persistence.accessModes is ReadWriteOncePod: the pod that makes the copy could not mount the registry; use ReadWriteOnce" }}
{{- end }}
{{- end }}
{{- with .Values.persistence }}
{{- if and (not .enabled) (not .ephemeral) }}
{{- $problems = append $problems "persistence.enabled is false: registry and journal would lie in an emptyDir and be lost with the pod. Set persistence.ephemeral to true as well when that is meant" }}
{{- end }}
{{- if and .enabled .ephemeral }}
{{- $problems = append $problems "persistence.ephemeral is true and persistence.enabled too: set one of them to false" }}
{{- end }}
{{- if and .existingClaim (not .enabled) }}
{{- $problems = append $problems "persistence.existingClaim is set and persistence.enabled is false: set it to true, or drop the claim" }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $problems }}
{{- end }}

{{- define "aiwm-supervisor.serverProblems" -}}
{{- $problems := list }}
{{- if and .Values.registryUrl.existingSecret .Values.registryUrl.url }}
{{- $problems = append $problems "registryUrl.url and registryUrl.existingSecret say the same: give one of them" }}
{{- end }}
{{- if regexMatch "://[^/@]*:[^/@]*@|[?&](ssl)?password=" .Values.registryUrl.url }}
{{- $problems = append $problems "registryUrl.url holds a password: put the URL into a Kubernetes secret and name that in registryUrl.existingSecret" }}
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- $problems = append $problems (printf "autoscaling.minReplicas is %d, above maxReplicas, %d" (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- end }}
{{- if .Values.backup.enabled }}
{{- $problems = append $problems "backup.enabled is true and the registry is in PostgreSQL, whose own tools copy it: set it to false" }}
{{- end }}
{{- $before := lookup "apps/v1" "StatefulSet" .Release.Namespace (include "aiwm-supervisor.fullname" .) | default dict }}
{{- if eq (dig "spec" "persistentVolumeClaimRetentionPolicy" "whenDeleted" "" $before) "Delete" }}
{{- $problems = append $problems "the registry's volume would go with the StatefulSet, and what is on it: set persistence.retention.whenDeleted to Retain and upgrade without registryUrl first" }}
{{- end }}
{{- if gt (dig "spec" "replicas" 0 $before | int) 0 }}
{{- $problems = append $problems "the supervisor of the registry on the volume still runs, and both would answer: upgrade with replicas 0 and without registryUrl first, and copy the registry (README: From the volume to PostgreSQL)" }}
{{- end }}
{{- toJson $problems }}
{{- end }}

{{- define "aiwm-supervisor.podProblems" -}}
{{- $problems := list }}
{{- if not (or .Values.adminToken.existingSecret .Values.adminToken.generate) }}
{{- $problems = append $problems "the admin API would be open to the network without a token: set adminToken.existingSecret, or adminToken.generate to true" }}
{{- end }}
{{- if has .Values.admin.host (list "127.0.0.1" "localhost" "::1") }}
{{- $problems = append $problems (printf "admin.host %s is the pod's own loopback: probes, the service and Prometheus could not reach it; use 0.0.0.0 or ::" .Values.admin.host) }}
{{- end }}
{{- $given := int .Values.terminationGracePeriodSeconds }}
{{- $least := int (include "aiwm-supervisor.leastGraceSeconds" .) }}
{{- if and $given (lt $given $least) }}
{{- $problems = append $problems (printf "terminationGracePeriodSeconds is %d, and a stop may take %d: DRAIN_SECONDS (%s) and 10 more. Give at least that, or 0 to have it computed" $given $least (include "aiwm-supervisor.drainSeconds" .)) }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
{{- $problems = append $problems "ingress.enabled is true and ingress.hosts is empty: name a host" }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- $problems = append $problems "httpRoute.enabled is true and httpRoute.parentRefs is empty: name a Gateway" }}
{{- end }}
{{- if and .Values.prometheusRule.enabled (not (.Files.Get "files/rules/alerts.yaml")) }}
{{- $problems = append $problems "prometheusRule.enabled is true and this copy of the chart has no files/rules/alerts.yaml" }}
{{- end }}
{{- $rules := .Files.Get "files/rules/alerts.yaml" }}
{{- $thresholds := .Files.Get "files/rules/thresholds.yaml" | fromYaml }}
{{- range $name, $own := .Values.prometheusRule.alerts }}
{{- if and $rules (not (contains (printf "- alert: %s\n" $name) $rules)) }}
{{- $problems = append $problems (printf "prometheusRule.alerts.%s: there is no such alert" $name) }}
{{- else if and (hasKey $own "threshold") (not (hasKey $thresholds $name)) }}
{{- $problems = append $problems (printf "prometheusRule.alerts.%s: it has no threshold; there are those of %s" $name (keys $thresholds | sortAlpha | join ", ")) }}
{{- end }}
{{- end }}
{{- if and .Values.dashboards.enabled (not (.Files.Glob "files/dashboards/*.json")) }}
{{- $problems = append $problems "dashboards.enabled is true and this copy of the chart has no files/dashboards" }}
{{- end }}
{{- toJson $problems }}
{{- end }}
