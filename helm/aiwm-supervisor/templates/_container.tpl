{{/* What every container of the image has. */}}
{{- define "aiwm-supervisor.imageAndContext" -}}
image: {{ include "aiwm-supervisor.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end }}

{{- define "aiwm-supervisor.container" -}}
{{ include "aiwm-supervisor.imageAndContext" . }}
envFrom:
  - configMapRef:
      name: "{{ include "aiwm-supervisor.fullname" . }}-settings"
  {{- with .Values.envFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
env:
  {{- if not .Values.adminToken.existingSecret }}
  {{- include "aiwm-supervisor.secretEnv" (dict "variable" "SUPERVISOR_ADMIN_TOKEN" "name" (include "aiwm-supervisor.adminSecret" .) "key" .Values.adminToken.key) | nindent 2 }}
  {{- end }}
  {{- with include "aiwm-supervisor.secretsEnv" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- if include "aiwm-supervisor.onServer" . }}
  # Where the other supervisors reach this one.
  - name: POD_IP
    valueFrom:
      fieldRef:
        fieldPath: status.podIP
  - name: SUPERVISOR_ADVERTISE_URL
    value: "http://{{ contains ":" .Values.admin.host | ternary "[$(POD_IP)]" "$(POD_IP)" }}:8640"
  {{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  {{- if not (include "aiwm-supervisor.onServer" .) }}
  - name: data
    mountPath: /var/lib/aiwm-supervisor
  - name: agents
    mountPath: /etc/aiwm-supervisor/fleet
    readOnly: true
  {{- end }}
  {{- range include "aiwm-supervisor.agentSecrets" . | fromJsonArray }}
  - name: {{ include "aiwm-supervisor.agentSecretVolume" . }}
    mountPath: /run/secrets/agents/{{ . }}
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
{{- if not (or (include "aiwm-supervisor.claimTemplate" .) (include "aiwm-supervisor.onServer" .)) }}
- name: data
  {{- if .Values.persistence.existingClaim }}
  persistentVolumeClaim:
    claimName: {{ .Values.persistence.existingClaim | quote }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .Values.persistence.size | quote }}
  {{- end }}
{{- end }}
{{- if not (include "aiwm-supervisor.onServer" .) }}
{{ include "aiwm-supervisor.fleetVolume" . }}
{{- end }}
{{- range include "aiwm-supervisor.agentSecrets" . | fromJsonArray }}
- name: {{ include "aiwm-supervisor.agentSecretVolume" . }}
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
    # What is missing faults its agents and no others, until it is there.
    optional: true
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

{{- define "aiwm-supervisor.fleetVolume" -}}
- name: agents
  configMap:
    name: "{{ include "aiwm-supervisor.fullname" . }}-agents"
{{- end }}

{{/* Where pods of the release may run. */}}
{{- define "aiwm-supervisor.placement" -}}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What every pod of the release has. */}}
{{- define "aiwm-supervisor.pod" -}}
enableServiceLinks: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
