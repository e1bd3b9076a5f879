{{/* The TOML of a value. Numbers go through JSON, where a whole one has no fraction, whichever way Helm has read it. */}}
{{- define "trio-alerts.toml" -}}
{{- if kindIs "map" . -}}
{ {{- range $i, $key := keys . | sortAlpha }}{{ if $i }},{{ end }} {{ $key | toRawJson }} = {{ include "trio-alerts.toml" (get $ $key) }}{{ end }} }
{{- else if kindIs "slice" . -}}
[{{ range $i, $one := . }}{{ if $i }}, {{ end }}{{ include "trio-alerts.toml" $one }}{{ end }}]
{{- else -}}
{{ toRawJson . }}
{{- end -}}
{{- end -}}

{{/* The whole file: plain settings first, then each channel and route as a table of its own. */}}
{{- define "trio-alerts.settings" -}}
{{- range $key := keys .Values.settings | sortAlpha }}
{{- if not (has $key (list "channels" "routes")) }}
{{ $key }} = {{ include "trio-alerts.toml" (get $.Values.settings $key) }}
{{- end }}
{{- end }}
{{- range $heading := list "channels" "routes" }}
{{- range $table := get $.Values.settings $heading | default list }}

[[{{ $heading }}]]
{{- range $key := keys $table | sortAlpha }}
{{ $key }} = {{ include "trio-alerts.toml" (get $table $key) }}
{{- end }}
{{- end }}
{{- end }}
{{ end -}}

{{/* How long a stop takes at most: what is being sent, then outcomes that a slow store is late to take. */}}
{{- define "trio-alerts.drain" -}}
{{- $grace := .Values.settings.grace_s | default 25 | float64 -}}
{{- $store := .Values.settings.store_timeout_s | default 10 | float64 -}}
{{- addf $grace (mulf 2 $store) 10 | ceil | int64 -}}
{{- end -}}
