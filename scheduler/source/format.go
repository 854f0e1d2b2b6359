package source

import (
	"mime"
	"path"
	"strings"
)

// formatOf is a file name that tells the format of an answer: the path's, if its
// ending does, else one made of the content type.
func formatOf(urlPath, contentType string) string {
	name := path.Base(urlPath)
	switch strings.ToLower(path.Ext(name)) {
	case ".json", ".jsonl", ".ndjson", ".yaml", ".yml", ".csv":
		return name
	}
	media, _, _ := mime.ParseMediaType(contentType)
	switch media {
	case "application/json":
		return "tasks.json"
	case "application/x-ndjson", "application/jsonl", "application/json-lines":
		return "tasks.jsonl"
	case "application/yaml", "application/x-yaml", "text/yaml":
		return "tasks.yaml"
	case "text/csv":
		return "tasks.csv"
	}
	return "tasks"
}
