{{/* The pod that runs the supervisor, whatever makes it. */}}
{{- define "aiwm-supervisor.podTemplate" -}}
metadata:
  labels:
    {{- include "aiwm-supervisor.selectorLabels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: supervisor
    checksum/settings: "{{ include "aiwm-supervisor.settings" . | sha256sum }}"
    checksum/secrets: "{{ include "aiwm-supervisor.secretsChecksum" . }}"
    {{- if .Values.handlers.files }}
    checksum/handlers: "{{ toJson .Values.handlers.files | sha256sum }}"
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: "{{ include "aiwm-supervisor.serviceAccountName" . }}"
  automountServiceAccountToken: {{ .Values.serviceAccount.automountToken }}
  {{- include "aiwm-supervisor.pod" . | nindent 2 }}
  {{- if eq (toString (get .Values.config "ALLOW_COMMANDS")) "true" }}
  # What programs of the command handler leave behind is reaped by the pod's first process.
  shareProcessNamespace: true
  {{- end }}
  terminationGracePeriodSeconds: {{ include "aiwm-supervisor.graceSeconds" . }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with .Values.extraInitContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: supervisor
      args:
        - run
      {{- include "aiwm-supervisor.container" . | nindent 6 }}
      ports:
        - name: http
          containerPort: 8640
          protocol: TCP
      startupProbe:
        httpGet:
          path: /livez
          port: http
        {{- toYaml .Values.startupProbe | nindent 8 }}
      livenessProbe:
        httpGet:
          path: /livez
          port: http
        {{- toYaml .Values.livenessProbe | nindent 8 }}
      readinessProbe:
        httpGet:
          path: /readyz
          port: http
        {{- toYaml .Values.readinessProbe | nindent 8 }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "aiwm-supervisor.volumes" . | nindent 4 }}
  {{- with include "aiwm-supervisor.placement" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "aiwm-supervisor.spread" . | trim }}
  topologySpreadConstraints:
    {{- . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* How pods are spread: as is said, else those of one database over zones and nodes, as far as there are some. */}}
{{- define "aiwm-supervisor.spread" -}}
{{- if .Values.topologySpreadConstraints }}
{{- toYaml .Values.topologySpreadConstraints }}
{{- else if include "aiwm-supervisor.onServer" . }}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "aiwm-supervisor.selectorLabels" $ | nindent 6 }}
  # Those of one version among themselves: at a rollout the old ones go.
  matchLabelKeys:
    - pod-template-hash
{{- end }}
{{- end }}
{{- end }}
