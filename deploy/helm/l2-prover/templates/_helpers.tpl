{{- define "l2-prover.labels" -}}
app.kubernetes.io/name: l2-prover
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "l2-prover.image" -}}
{{- $image := index . 0 -}}
{{ required (printf "%s.image.repository: name the image" (index . 2)) $image.repository }}:{{ $image.tag | default (index . 1).AppVersion }}
{{- end }}

{{- define "l2-prover.pod-security" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "l2-prover.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "l2-prover.endpoints" -}}
{{- if .Values.client.endpoints -}}
{{ .Values.client.endpoints }}
{{- else -}}
{{- $urls := list -}}
{{- $scheme := ternary "https" "http" (ne .Values.server.tlsSecret "") -}}
{{- range $i := until (int .Values.server.replicas) -}}
{{- $urls = append $urls (printf "%s://%s-server-%d.%s-server.%s.svc:3900" $scheme $.Release.Name $i $.Release.Name $.Release.Namespace) -}}
{{- end -}}
{{ join "," $urls }}
{{- end -}}
{{- end }}

{{- /* A value as text. Numbers of a values file are floats for Helm, which would write 4000000000 as 4e+09. */ -}}
{{- define "l2-prover.text" -}}
{{- if kindIs "float64" . }}{{ printf "%.0f" . }}{{ else }}{{ . | toString }}{{ end -}}
{{- end }}

{{- /* The variables in the map, but for those that the chart sets itself: a second value would break its probes, or its tokens. */ -}}
{{- define "l2-prover.env" -}}
{{- $fixed := index . 1 -}}
{{- $path := index . 2 -}}
{{- range $key, $value := index . 0 }}
{{- if has $key $fixed }}{{ fail (printf "%s.%s is set by the chart" $path $key) }}{{ end }}
- { name: {{ $key }}, value: {{ include "l2-prover.text" $value | quote }} }
{{- end }}
{{- end }}
