package openapi_test

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// TestDescription: what generators and readers need of openapi.json is there: operation
// ids that are names, summaries, tags that are described, answers of errors, security
// schemes, parameters that the path has, schemas that somebody refers to.
func TestDescription(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../api/rota/v1/openapi.json")
	must(t, err)
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	must(t, err)
	must(t, doc.Validate(t.Context()))
	if doc.Info.License == nil || len(doc.Servers) == 0 || len(doc.Security) == 0 || len(doc.Components.SecuritySchemes) < 2 {
		t.Error("it lacks a license, servers, or who may ask")
	}
	tags := map[string]bool{}
	for _, tag := range doc.Tags {
		if tag.Description == "" {
			t.Errorf("nothing says what %s are", tag.Name)
		}
		tags[tag.Name] = false
	}
	ids, name := map[string]bool{}, regexp.MustCompile("^[A-Z][A-Za-z]*(_[A-Z][A-Za-z]*[2-9]?)?$")
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			where := method + " " + path
			if !name.MatchString(op.OperationID) || ids[op.OperationID] {
				t.Errorf("%s has the operation id %q: no name, or another's", where, op.OperationID)
			}
			ids[op.OperationID] = true
			if op.Summary == "" || len(op.Summary) > 200 {
				t.Errorf("%s has the summary %q", where, op.Summary)
			}
			for _, tag := range op.Tags {
				if _, ok := tags[tag]; !ok {
					t.Errorf("%s has the tag %s, which is not described", where, tag)
				}
				tags[tag] = true
			}
			if len(op.Tags) != 1 {
				t.Errorf("%s has the tags %v", where, op.Tags)
			}
			for _, class := range []string{"4XX", "5XX"} {
				answer := op.Responses.Value(class)
				if answer == nil || answer.Value.Content["application/json"].Schema.Ref != "#/components/schemas/Error" {
					t.Errorf("%s says nothing of %s", where, class)
				}
			}
			for _, p := range op.Parameters {
				if p.Value.In == "path" && !strings.Contains(path, "{"+p.Value.Name+"}") {
					t.Errorf("%s has no %s in its path", where, p.Value.Name)
				}
			}
			if method == http.MethodGet && op.RequestBody != nil {
				t.Errorf("%s has a body", where)
			}
		}
	}
	for tag, used := range tags {
		if !used {
			t.Errorf("no operation has the tag %s", tag)
		}
	}
	for schema := range doc.Components.Schemas {
		if !strings.Contains(string(raw), `"#/components/schemas/`+schema+`"`) {
			t.Errorf("nobody refers to the schema %s", schema)
		}
	}
	if len(ids) < 40 {
		t.Errorf("%d operations: that cannot be all", len(ids))
	}
}
