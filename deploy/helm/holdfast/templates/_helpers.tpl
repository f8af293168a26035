{{- define "holdfast.labels" -}}
app.kubernetes.io/name: holdfast
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "holdfast.image" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{- define "holdfast.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- end }}

{{- define "holdfast.environment" -}}
- name: HOLDFAST_METADATA
  value: {{ .Values.metadata.url | quote }}
- name: HOLDFAST_SECRET_FILE
  value: /etc/holdfast/secret/secret
{{- end }}

{{- define "holdfast.configMounts" -}}
- name: secret
  mountPath: /etc/holdfast/secret
  readOnly: true
{{- if .Values.metadata.tlsSecret }}
- name: etcd-tls
  mountPath: /etc/holdfast/etcd
  readOnly: true
{{- end }}
{{- end }}

{{- define "holdfast.configVolumes" -}}
- name: secret
  secret:
    secretName: {{ .Values.secretName }}
    defaultMode: 256 # 0400
{{- if .Values.metadata.tlsSecret }}
- name: etcd-tls
  secret:
    secretName: {{ .Values.metadata.tlsSecret }}
    defaultMode: 256 # 0400
{{- end }}
{{- end }}

{{- define "holdfast.probeOfSidecar" -}}
httpGet:
  path: /healthz
  port: healthz
initialDelaySeconds: 10
periodSeconds: 15
timeoutSeconds: 5
failureThreshold: 6
{{- end }}
