// Package rotav1 is the API: its messages and services, for clients and servers over gRPC,
// and its description for those over HTTP.
package rotav1

import _ "embed"

// OpenAPI is the description of the API over HTTP, JSON of OpenAPI 3: schedulers serve
// it at /v1/openapi.json.
//
//go:embed openapi.json
var OpenAPI []byte
