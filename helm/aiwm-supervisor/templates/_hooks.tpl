{{/*
A Job of the image before Helm changes anything: what it needs has to be there, or is given with it. Arguments: root; name,
behind that of the release; hook and weight, as Helm has them; seconds that it may take; args of the command; omit, variables
that it does not get.
*/}}
{{- define "aiwm-supervisor.jobBefore" -}}
{{- $root := .root }}
{{- $omit := .omit }}
apiVersion: batch/v1
kind: Job
metadata:
  name: "{{ include "aiwm-supervisor.fullname" $root }}-{{ .name }}"
  namespace: "{{ $root.Release.Namespace }}"
  labels:
    {{- include "aiwm-supervisor.labels" $root | nindent 4 }}
  {{- include "aiwm-supervisor.annotations" (dict "root" $root "own" (dict "helm.sh/hook" .hook "helm.sh/hook-weight" .weight "helm.sh/hook-delete-policy" "before-hook-creation,hook-succeeded")) | nindent 2 }}
spec:
  backoffLimit: 0
  # An image that cannot be pulled never ends by itself.
  activeDeadlineSeconds: {{ int .seconds }}
  template:
    metadata:
      labels:
        {{- include "aiwm-supervisor.jobLabels" (dict "root" $root "name" .name) | nindent 8 }}
    spec:
      restartPolicy: Never
      {{- if not $root.Values.serviceAccount.create }}
      serviceAccountName: "{{ include "aiwm-supervisor.serviceAccountName" $root }}"
      {{- end }}
      automountServiceAccountToken: false
      {{- include "aiwm-supervisor.pod" $root | nindent 6 }}
      containers:
        - name: {{ .name }}
          args:
            {{- toYaml .args | nindent 12 }}
          {{- include "aiwm-supervisor.imageAndContext" $root | nindent 10 }}
          {{- with $root.Values.envFrom }}
          envFrom:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          env:
            # The ConfigMap is still that of the release before.
            {{- $settings := include "aiwm-supervisor.settings" $root | trim | fromYaml }}
            {{- range $omit }}
            {{- $_ := unset $settings . }}
            {{- end }}
            # It listens to nobody, and needs no token for that.
            {{- $_ := set $settings "SUPERVISOR_ADMIN_HOST" "127.0.0.1" }}
            {{- range $variable, $value := $settings }}
            - name: {{ $variable }}
              value: {{ $value | quote }}
            {{- end }}
            {{- with include "aiwm-supervisor.secretsEnv" $root | trim }}
            {{- . | nindent 12 }}
            {{- end }}
          resources:
            {{- toYaml $root.Values.resources | nindent 12 }}
          volumeMounts:
            - name: tmp
              mountPath: /tmp
            {{- with $root.Values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {}
        {{- with $root.Values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      # A volume that one node may mount is mounted where the supervisor is.
      affinity:
        podAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              podAffinityTerm:
                topologyKey: kubernetes.io/hostname
                labelSelector:
                  matchLabels:
                    {{- include "aiwm-supervisor.selectorLabels" $root | nindent 20 }}
      {{- with include "aiwm-supervisor.placement" $root | trim }}
      {{- . | nindent 6 }}
      {{- end }}
{{- end }}

{{/* Another name than the supervisor's: the service must not send requests to the pods of a Job. */}}
{{- define "aiwm-supervisor.jobLabels" -}}
app.kubernetes.io/name: "{{ include "aiwm-supervisor.name" .root }}-{{ .name }}"
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{ include "aiwm-supervisor.otherLabels" .root }}
{{- end }}
