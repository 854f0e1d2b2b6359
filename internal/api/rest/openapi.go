package rest

import (
	"net/http"

	rotav1 "github.com/rota-project/rota/api/rota/v1"
)

// serveOpenAPI answers the description of the API as OpenAPI 3.
func serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", jsonType)
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(rotav1.OpenAPI)
}
