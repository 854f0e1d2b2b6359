package olscheduler_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/rota-project/rota/compat/olscheduler"
)

// An olscheduler in a server of one's own, in front of one worker.
func Example() {
	worker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "ran ", r.URL.Path)
	}))
	defer worker.Close()
	at, err := url.Parse(worker.URL)
	if err != nil {
		panic(err)
	}
	c := olscheduler.DefaultConfig()
	c.Balancer = olscheduler.NewLeastLoaded([]url.URL{*at})
	h, g, err := olscheduler.Handler(c)
	if err != nil {
		panic(err)
	}
	defer g.Close()
	front := httptest.NewServer(h)
	defer front.Close()

	resp, err := http.Post(front.URL+"/runLambda/thumbnail", "application/json", nil)
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body), err)
	// Output: 200 ran /runLambda/thumbnail <nil>
}
