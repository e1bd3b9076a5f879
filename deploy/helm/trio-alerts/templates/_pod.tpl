{{/* What the Pods of the workers, of the console and of the test have in common. */}}
{{- define "trio-alerts.pod" -}}
serviceAccountName: {{ include "trio-alerts.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{ toJson . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: { type: RuntimeDefault }
volumes:
  - name: settings
    configMap: { name: {{ include "trio-alerts.name" . }} }
  - name: secrets
    secret: { secretName: {{ .Values.secretName }}, defaultMode: 0440 }
{{- end -}}

{{- define "trio-alerts.container" -}}
image: {{ .Values.image.repository }}{{ with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
env:
  - { name: TRIO_ALERTS_CONFIG, value: /etc/trio-alerts/trio-alerts.toml }
  - { name: TRIO_ALERTS_HTTP_BIND, value: {{ .Values.bind | quote }} }
  {{- with .Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumeMounts:
  - { name: settings, mountPath: /etc/trio-alerts, readOnly: true }
  - { name: secrets, mountPath: /run/secrets/trio-alerts, readOnly: true }
{{- end -}}
