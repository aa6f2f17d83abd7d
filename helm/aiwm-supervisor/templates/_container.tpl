{{/* What the init container that imports the agents and the supervisor itself have in common. */}}
{{- define "aiwm-supervisor.container" -}}
image: {{ include "aiwm-supervisor.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
envFrom:
  - configMapRef:
      name: "{{ include "aiwm-supervisor.fullname" . }}-settings"
  {{- with .Values.envFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
env:
  {{- include "aiwm-supervisor.secretEnv" (dict "variable" "SUPERVISOR_ADMIN_TOKEN" "name" (include "aiwm-supervisor.adminSecret" .) "key" .Values.adminToken.key) | nindent 2 }}
  {{- range $variable, $from := dict "SUPERVISOR_ADMIN_READ_TOKEN" .Values.adminReadToken "SUPERVISOR_METRICS_TOKEN" .Values.metricsToken "SUPERVISOR_SECRET_KEYS" .Values.secretKeys "SUPERVISOR_PROXY" .Values.proxy "SUPERVISOR_OTLP_HEADERS" .Values.otlpHeaders }}
  {{- if $from.existingSecret }}
  {{- include "aiwm-supervisor.secretEnv" (dict "variable" $variable "name" $from.existingSecret "key" $from.key) | nindent 2 }}
  {{- end }}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  - name: data
    mountPath: /var/lib/aiwm-supervisor
  {{- if .Values.agents }}
  - name: agents
    mountPath: /etc/aiwm-supervisor/fleet
    readOnly: true
  - name: agent-secrets
    mountPath: /run/secrets/agents
    readOnly: true
  {{- end }}
  {{- if include "aiwm-supervisor.ownHandlers" . }}
  - name: handlers
    mountPath: /etc/aiwm-supervisor/handlers
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "aiwm-supervisor.volumes" -}}
- name: tmp
  emptyDir: {}
{{- if not (include "aiwm-supervisor.claimTemplate" .) }}
- name: data
  {{- if .Values.persistence.existingClaim }}
  persistentVolumeClaim:
    claimName: {{ .Values.persistence.existingClaim | quote }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .Values.persistence.size | quote }}
  {{- end }}
{{- end }}
{{- if .Values.agents }}
- name: agents
  configMap:
    name: "{{ include "aiwm-supervisor.fullname" . }}-agents"
- name: agent-secrets
  projected:
    defaultMode: 0440
    sources:
      {{- include "aiwm-supervisor.agentSecretSources" . | trim | nindent 6 }}
{{- end }}
{{- if include "aiwm-supervisor.ownHandlers" . }}
- name: handlers
  {{- if .Values.handlers.volume }}
  {{- toYaml .Values.handlers.volume | nindent 2 }}
  {{- else }}
  configMap:
    name: {{ default (printf "%s-handlers" (include "aiwm-supervisor.fullname" .)) .Values.handlers.existingConfigMap | quote }}
  {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
