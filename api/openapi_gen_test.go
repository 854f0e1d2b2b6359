package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestOpenAPIIsCurrent makes openapi.json from what the protobuf generator
// writes (Swagger 2 after the canonical JSON mapping) and fails if the file
// that is embedded is another.
func TestOpenAPIIsCurrent(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("rota/v1/rota.swagger.json")
	if err != nil {
		t.Fatal(err)
	}
	want, err := toOpenAPI(src)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(openAPI, want) {
		t.Fatal("openapi.json is stale: go generate ./api")
	}
}

type object = map[string]any

// toOpenAPI turns Swagger 2 into OpenAPI 3: what is different there, what our
// JSON does differently (integers are numbers, streams are lines of plain
// messages), and our errors.
func toOpenAPI(swagger []byte) ([]byte, error) {
	var src object
	if err := json.Unmarshal(swagger, &src); err != nil {
		return nil, err
	}
	schemas := object{}
	for name, schema := range src["definitions"].(object) {
		if short := schemaName(name); short != name {
			schemas[short] = fixSchema(schema)
		}
	}
	schemas["Error"] = object{
		"type":        "object",
		"description": "What went wrong. field names the field that is wrong, if one is.",
		"required":    []any{"error"},
		"properties": object{"error": object{
			"type":     "object",
			"required": []any{"code", "message"},
			"properties": object{
				"code": object{"type": "string"}, "message": object{"type": "string"}, "field": object{"type": "string"},
			},
		}},
	}
	paths := object{}
	for path, methods := range src["paths"].(object) {
		out := object{}
		for method, op := range methods.(object) {
			out[method] = fixOperation(op.(object))
		}
		paths[path] = out
	}
	fixDelete(paths)
	var tags []any
	for _, tag := range src["tags"].([]any) {
		if tag.(object)["name"] != "Sessions" {
			tags = append(tags, tag)
		}
	}
	out, err := json.MarshalIndent(object{
		"openapi":    "3.0.3",
		"info":       object{"title": "rota", "version": "v1", "description": "Which worker does what, and why. 64-bit integers are JSON numbers; every field is always there."},
		"tags":       tags,
		"paths":      paths,
		"components": object{"schemas": schemas},
	}, "", "  ")
	return append(out, '\n'), err
}

// fixDelete renames the parameter that takes one id.
func fixDelete(paths object) {
	const was, is = "/v1/tasks/{ids}", "/v1/tasks/{id}"
	op := paths[was].(object)["delete"].(object)
	op["parameters"] = []any{object{"name": "id", "in": "path", "required": true, "schema": object{"type": "string"}}}
	paths[is].(object)["delete"] = op
	delete(paths, was)
}

func fixOperation(op object) object {
	out := object{"operationId": op["operationId"], "tags": op["tags"]}
	for _, key := range []string{"summary", "description"} {
		if text, ok := op[key]; ok {
			out[key] = text
		}
	}
	var params []any
	for _, p := range asList(op["parameters"]) {
		p := p.(object)
		if p["in"] == "body" {
			out["requestBody"] = object{"required": true, "content": content(jsonType, p["schema"])}
			continue
		}
		params = append(params, fixParameter(p))
	}
	if params != nil {
		out["parameters"] = params
	}
	schema := op["responses"].(object)["200"].(object)["schema"].(object)
	answer := content(jsonType, schema)
	if props, ok := schema["properties"].(object); ok && props["result"] != nil {
		answer = content(ndjsonType, props["result"])
	}
	out["responses"] = object{
		"200":     object{"description": "Done.", "content": answer},
		"default": object{"description": "Not done.", "content": content(jsonType, object{"$ref": "#/definitions/v1Error"})},
	}
	return out
}

// schemaName returns the message's name without the generator's prefix, which
// all messages of rota.v1 have and no other.
func schemaName(name string) string {
	for _, prefix := range []string{"rotaV1", "v1"} {
		if short, ok := strings.CutPrefix(name, prefix); ok {
			return short
		}
	}
	return name
}

func fixParameter(p object) object {
	out, schema := object{}, object{}
	for _, key := range slices.Sorted(maps.Keys(p)) {
		switch key {
		case "type", "format", "items":
			schema[key] = p[key]
		case "collectionFormat":
			out["style"], out["explode"] = "form", true
		default:
			out[key] = p[key]
		}
	}
	out["schema"] = fixSchema(schema)
	return out
}

func content(mediaType string, schema any) object {
	return object{mediaType: object{"schema": fixSchema(schema)}}
}

func fixSchema(v any) any {
	switch v := v.(type) {
	case object:
		out := object{}
		for key, value := range v {
			if ref, ok := value.(string); ok && key == "$ref" {
				value = "#/components/schemas/" + schemaName(strings.TrimPrefix(ref, "#/definitions/"))
			}
			out[key] = fixSchema(value)
		}
		if f := out["format"]; out["type"] == "string" && (f == "int64" || f == "uint64") {
			out["type"], out["format"] = "integer", "int64"
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = fixSchema(v[i])
		}
		return out
	}
	return v
}

func asList(v any) []any {
	list, _ := v.([]any)
	return list
}
