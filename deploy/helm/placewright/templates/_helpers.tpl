{{- define "placewright.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 48 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 48 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "placewright.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "placewright.labels" -}}
{{ include "placewright.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "placewright.image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}{{ else }}{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "placewright.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "placewright.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Kernels are compiled for the node's own processor once a pod, so their cache is not the image's. */}}
{{- define "placewright.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: kernels, mountPath: /var/cache/placewright}
{{- end }}

{{- define "placewright.volumes" -}}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
- name: kernels
  emptyDir: {sizeLimit: 256Mi}
{{- end }}

{{/* Ray keeps its sockets, logs and spilled objects in /tmp, and objects in shared memory. */}}
{{- define "placewright.rayMounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: kernels, mountPath: /var/cache/placewright}
- {name: shared, mountPath: /dev/shm}
{{- end }}

{{- define "placewright.rayVolumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 4Gi}
- name: kernels
  emptyDir: {sizeLimit: 256Mi}
- name: shared
  emptyDir: {medium: Memory, sizeLimit: 256Mi}
{{- end }}

{{- define "placewright.rayToken" -}}
- {name: RAY_AUTH_MODE, value: token}
- name: RAY_AUTH_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ include "placewright.name" . }}-ray, key: auth_token}
{{- end }}

{{- define "placewright.environment" -}}
- name: PLACEWRIGHT_DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ .Values.database.secretName }}, key: {{ .Values.database.secretKey }}}
- {name: PLACEWRIGHT_AUTHENTICATION, value: {{ ternary "on" "off" .Values.auth.enabled | quote }}}
{{- with .Values.auth.oidc.issuer }}
- {name: PLACEWRIGHT_OIDC_ISSUER, value: {{ . | quote }}}
- {name: PLACEWRIGHT_OIDC_AUDIENCE, value: {{ required "auth.oidc.audience is needed with an issuer" $.Values.auth.oidc.audience | quote }}}
{{- end }}
{{- range $name, $value := .Values.settings }}
- {name: PLACEWRIGHT_{{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- range $name, $secret := .Values.secretSettings }}
- name: PLACEWRIGHT_{{ $name }}
  valueFrom:
    secretKeyRef: {name: {{ $secret.secretName }}, key: {{ $secret.secretKey }}}
{{- end }}
{{- end }}

{{/* Spread over nodes and zones as far as they go. */}}
{{- define "placewright.spread" -}}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "placewright.selector" $ | nindent 6 }}
{{- end }}
{{- end }}
