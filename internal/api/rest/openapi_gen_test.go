package rest

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestOpenAPIIsCurrent makes openapi.json from what the protobuf generator
// writes (Swagger 2 after the canonical JSON mapping) and fails if the file
// that is embedded is another.
func TestOpenAPIIsCurrent(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("../../../api/rota/v1/rota.swagger.json")
	if err != nil {
		t.Fatal(err)
	}
	want, err := toOpenAPI(src)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("../../../api/rota/v1/openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(rotav1.OpenAPI, want) {
		t.Fatal("openapi.json is stale: go generate ./internal/api/rest")
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
		schemas[schemaName(name)] = fixSchema(schema)
	}
	schemas["Error"] = object{
		"type":        "object",
		"description": "What went wrong. field names the field that is wrong, if one is.",
		"required":    []any{"error"},
		"properties": object{"error": object{
			"type":     "object",
			"required": []any{"code", "message"},
			"properties": object{
				"code": object{"type": "string"}, "message": object{"type": "string"}, "field": object{"type": "string"}, "reason": object{"type": "string"},
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
		switch tag.(object)["name"] {
		case "Sessions", "SignIns", "JobWork", "PoolJoin": // not over HTTP, or described below
		default:
			tags = append(tags, tag)
		}
	}
	addSignIn(paths, schemas)
	addErrors(paths)
	tags = append(tags, object{"name": "SignIn", "description": "People at browsers: a session in a cookie in exchange for credentials."})
	out, err := json.MarshalIndent(object{
		"openapi":    "3.0.3",
		"info":       object{"title": "rota", "version": "v1", "description": "Which worker does what, and why. 64-bit integers are JSON numbers; every field is always there.", "license": object{"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}},
		"servers":    []any{object{"url": "/", "description": "The scheduler that this description is from. Every other one answers alike."}},
		"security":   []any{object{"bearer": []any{}}, object{"session": []any{}}, object{}},
		"tags":       tags,
		"paths":      paths,
		"components": object{"schemas": schemas, "responses": errorAnswers(), "securitySchemes": credentials()},
	}, "", "  ")
	return append(out, '\n'), err
}

// credentials are the ways to say who asks. A client certificate with a role is one that
// OpenAPI 3.0 has no word for; it stands for the empty choice, as does nobody where
// everybody on the machine is an admin.
func credentials() object {
	return object{
		"bearer":  object{"type": "http", "scheme": "bearer", "description": "A token of rota token create, or a JWT of the configured issuer."},
		"session": object{"type": "apiKey", "in": "cookie", "name": "__Host-rota-default", "description": "The session of somebody who has signed in at a browser. The name ends with the namespace; without TLS it begins with rota-."},
	}
}

// errorAnswers are the answers of every operation that does not succeed.
func errorAnswers() object {
	answer := func(description string) object {
		return object{"description": description, "content": content(jsonType, object{"$ref": "#/definitions/v1Error"})}
	}
	return object{
		"Refused": answer("Refused: the request is wrong (400), nobody has said who asks (401), they may not (403), there is no such thing (404), it is not so now (409), or it is too much (413, 429)."),
		"Failed":  answer("Not done, through no fault of the request: the store or another scheduler does not answer (503), or it took too long (504)."),
	}
}

// addErrors gives each operation its answers of errors, and those that nobody has to
// prove anything for no security.
func addErrors(paths object) {
	for _, methods := range paths {
		for _, op := range methods.(object) {
			op := op.(object)
			responses := op["responses"].(object)
			delete(responses, "default")
			responses["4XX"] = object{"$ref": "#/components/responses/Refused"}
			responses["5XX"] = object{"$ref": "#/components/responses/Failed"}
			switch op["operationId"] {
			case "SignInWays", "SignInByCode", "SignInByOIDC", "SignInByOIDCCallback":
				op["security"] = []any{}
			}
		}
	}
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
		"200": object{"description": "Done.", "content": answer},
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
		for name, property := range asObject(out["properties"]) {
			out["properties"].(object)[name] = orNull(property.(object))
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

// orNull lets a field that holds a message, or a time, be null: a field is always
// there, and so says that there is none.
func orNull(property object) object {
	switch {
	case property["$ref"] != nil:
		ref := object{"$ref": property["$ref"]}
		out := object{"anyOf": []any{ref, object{"type": "object", "nullable": true, "enum": []any{nil}}}}
		if text := property["description"]; text != nil {
			out["description"] = text
		}
		return out
	case property["format"] == "date-time":
		property["nullable"] = true
	}
	return property
}

func asObject(v any) object {
	o, _ := v.(object)
	return o
}

func asList(v any) []any {
	list, _ := v.([]any)
	return list
}
