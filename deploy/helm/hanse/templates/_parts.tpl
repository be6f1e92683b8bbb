{{- /* What all have in common. Each takes a dictionary: root (the chart's context), part (coordinator, node, policy), name. */ -}}

{{- define "hanse.labels" -}}
app.kubernetes.io/name: hanse
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "hanse.metadata" -}}
name: {{ .root.Release.Name }}-{{ .name }}
labels:
  {{- include "hanse.labels" . | nindent 2 }}
  hanse/part: {{ .part }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "hanse.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false # their variables could be taken for ours
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "hanse.container" -}}
image: {{ with .root.Values.image.registry }}{{ . }}/{{ end }}hanse/{{ .part }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  privileged: false
  capabilities:
    drop: [ALL]
{{- end }}

{{- define "hanse.claim" -}}
metadata:
  name: home
spec:
  accessModes: [ReadWriteOnce]
  {{- with .storageClass }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ .size }}
{{- end }}

{{- define "hanse.probes" -}}
{{- range $probe, $path := dict "startupProbe" "/health" "livenessProbe" "/health" "readinessProbe" .ready }}
{{ $probe }}:
  httpGet: {path: {{ $path }}, port: https, scheme: HTTPS}
  timeoutSeconds: 10
  periodSeconds: {{ ternary 5 30 (eq $probe "startupProbe") }}
  failureThreshold: {{ ternary 24 3 (eq $probe "startupProbe") }}
{{- end }}
{{- end }}
