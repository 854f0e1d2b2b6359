{{/* What all names begin with: the release's name, with the chart's if that is not in it. */}}
{{- define "rota.name" -}}
{{- $name := contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) -}}
{{- if gt (len $name) 40 }}{{ fail (printf "the release's name %q is too long: pods' names have 63 characters, want 40 at most for %q" .Release.Name $name) }}{{ end -}}
{{- $name -}}
{{- end -}}

{{/* Labels of an object: (list . "rota-scheduler"). */}}
{{- define "rota.labels" -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/part-of: rota
{{- with index . 0 }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{- end -}}

{{/* An image: (list . override). */}}
{{- define "rota.image" -}}
{{- $root := index . 0 -}}
{{- $own := index . 1 | default dict -}}
{{- $own.repository | default $root.Values.image.repository }}:{{ $own.tag | default $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end -}}

{{/* Where the pods of schedulers run, or of workers: .Values.scheduler or .Values.worker. */}}
{{- define "rota.where" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}
