package offer_test

import (
	"reflect"
	"testing"

	"github.com/rota-project/rota/internal/offer"
)

func TestThereAndBack(t *testing.T) {
	t.Parallel()
	fns := map[string][]string{"hello": nil, "resize.v2": {"pillow", "numpy"}}
	labels := offer.Labels(map[string]string{"disk": "ssd"}, "http://127.0.0.1:81", fns)
	if labels["disk"] != "ssd" || len(labels) != 4 {
		t.Errorf("labels %v", labels)
	}
	url, got, ok := offer.FromLabels(labels)
	if !ok || url != "http://127.0.0.1:81" || !reflect.DeepEqual(got, fns) {
		t.Errorf("%s, %v, %v", url, got, ok)
	}
	if _, _, ok := offer.FromLabels(map[string]string{"disk": "ssd"}); ok {
		t.Error("a worker without functions offers some")
	}
	for _, bad := range []string{"", "a b", "a/b", "é"} {
		if offer.ValidName(bad) == nil {
			t.Errorf("%q passes for a name", bad)
		}
	}
}
