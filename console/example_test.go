package console_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/rota-project/rota/console"
)

// The console one folder below the API that it asks, in a server of one's own.
func Example() {
	page, err := console.Handler("../")
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/rota/console/", http.StripPrefix("/rota/console", page))
	s := httptest.NewServer(mux)
	defer s.Close()

	resp, err := http.Get(s.URL + "/rota/console/")
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(err)
	}
	fmt.Println(resp.StatusCode, strings.Contains(string(text), "<title>rota</title>"))
	policy, _, _ := strings.Cut(resp.Header.Get("Content-Security-Policy"), "; base-uri")
	fmt.Println(policy)
	// Output:
	// 200 true
	// default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'
}
