package meter

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// TestBuckets: each time is in the bucket whose bound is the first that is not below it,
// and the bounds are those of native histograms.
func TestBuckets(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	list := []time.Duration{-time.Hour, -1, 0, 1, 30517, 30518, time.Second, time.Second + 1, 4 * time.Second, time.Hour, math.MaxInt64}
	for i := range histogramBuckets {
		list = append(list, bucketBound(i)-1, bucketBound(i), bucketBound(i)+1)
	}
	for range 10_000 {
		list = append(list, time.Duration(math.Exp(random.Float64()*32)))
	}
	for _, d := range list {
		i := bucketOf(d)
		if i < histogramBuckets-1 && d.Seconds() > bucketSeconds(i) || i > 0 && d.Seconds() <= bucketSeconds(i-1) {
			t.Errorf("%v is in bucket %d, which has those from %v to %v", d, i, bucketSeconds(i-1), bucketSeconds(i))
		}
	}
	for i := range histogramBuckets {
		if e := i + histogramFirst*histogramSteps; math.Abs(bucketSeconds(i)/math.Pow(2, float64(e)/4)-1) > 1e-12 {
			t.Errorf("bucket %d ends at %v", i, bucketSeconds(i))
		}
	}
}

// TestNativeHistogram: what a scrape gets of the times of calls, natively and in classic
// buckets, is what was counted.
func TestNativeHistogram(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{0, 1, 2, 10, 1000} {
		f := &Counts{}
		var sum float64
		for range n {
			d := time.Duration(math.Exp(random.Float64() * 32))
			f.Times.add(d)
			sum += d.Seconds()
		}
		var all Tally
		all.Add(f)
		var m dto.Metric
		if err := (&times{&all, prometheus.MakeLabelPairs(secondsDesc, []string{"f"})}).Write(&m); err != nil {
			t.Fatal(err)
		}
		h := m.GetHistogram()
		if h.GetSampleCount() != uint64(n) || math.Abs(h.GetSampleSum()-sum) > 1e-6*sum || h.GetSchema() != 2 || h.GetZeroThreshold() != math.Pow(2, -15) {
			t.Errorf("of %d calls that took %v s: %v", n, sum, h)
		}
		var counted [histogramBuckets]uint64
		counted[0] = h.GetZeroCount()
		at, delta, count := -histogramFirst*histogramSteps, 0, int64(0)
		for i, span := range h.GetPositiveSpan() {
			if i > 0 && span.GetOffset() <= 0 || span.GetLength() == 0 {
				t.Errorf("span %d of %d is %v", i, len(h.GetPositiveSpan()), span)
			}
			at += int(span.GetOffset())
			for range span.GetLength() {
				count += h.GetPositiveDelta()[delta]
				counted[at] = uint64(count)
				delta, at = delta+1, at+1
			}
		}
		if delta != len(h.GetPositiveDelta()) || counted != all.buckets {
			t.Errorf("natively of %d calls: %v, not %v", n, counted, all.buckets)
		}
		if len(h.GetBucket()) != classicLast-classicFirst+1 {
			t.Errorf("%d classic buckets", len(h.GetBucket()))
		}
		for i, b := range h.GetBucket() {
			var below uint64
			for i, n := range all.buckets {
				if bucketSeconds(i) <= b.GetUpperBound() {
					below += n
				}
			}
			if b.GetUpperBound() != math.Pow(2, float64(classicFirst+i)) || b.GetCumulativeCount() != below {
				t.Errorf("classic bucket %d of %d calls: %v, not %d", i, n, b, below)
			}
		}
	}
}
