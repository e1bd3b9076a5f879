{{/* What the schema cannot say: values that are right by themselves and wrong together. */}}
{{- define "trio-alerts.refuse" -}}
{{- $settings := .Values.settings -}}
{{- range $key := keys $settings | sortAlpha -}}
{{- if and (hasSuffix "_file" $key) (hasKey $settings (trimSuffix "_file" $key)) -}}
{{- fail (printf "settings.%s and settings.%s are both given; `%s: null` takes the second away" (trimSuffix "_file" $key) $key $key) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "redis_url" "store_url" -}}
{{- if contains "@" (get $settings $key | default "") -}}
{{- fail (printf "settings.%s holds a password: put it into the Secret, and name its file in settings.%s_file" $key $key) -}}
{{- end -}}
{{- end -}}
{{- if not (or $settings.webhook_url_file $settings.channels) -}}
{{- fail "settings has no channel, so nobody would be notified: give webhook_url_file or channels" -}}
{{- end -}}
{{- if hasPrefix "sqlite:" ($settings.store_url | default "") -}}
{{- fail "settings.store_url: an SQLite file serves the processes of one machine, and Pods have none in common; use OpenSearch" -}}
{{- end -}}
{{- if and .Values.console.enabled (not (or $settings.console_token_file $settings.console_user_header)) -}}
{{- fail "console.enabled: the console must know its visitors; give settings.console_token_file, or console_user_header and console_networks" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.backends) -}}
{{- fail "networkPolicy.enabled: without networkPolicy.backends the workers reach neither Redis nor the store" -}}
{{- end -}}
{{- if and .Values.keda.enabled (not .Values.keda.address) -}}
{{- fail "keda.enabled: keda.address must say where Redis is, as host:port" -}}
{{- end -}}
{{- if and .Values.keda.enabled (gt (int64 .Values.keda.minReplicas) (int64 .Values.keda.maxReplicas)) -}}
{{- fail "keda.minReplicas is more than keda.maxReplicas" -}}
{{- end -}}
{{- end -}}
