{{- define "trio-alerts.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "trio-alerts.selector" -}}
app.kubernetes.io/name: trio-alerts
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "trio-alerts.labels" -}}
{{ include "trio-alerts.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
