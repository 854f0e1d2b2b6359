package meter

import (
	"math"
	"sync/atomic"
	"time"
)

// histogram counts times in buckets that grow by the fourth root of two, from 31 µs to
// half an hour: those of a native histogram of Prometheus of schema 2. It serves
// Prometheus and the 95th percentile of hedging.
type histogram struct {
	buckets [histogramBuckets]atomic.Uint64
	nanos   atomic.Uint64
}

const (
	histogramSchema  = 2                    // buckets by which a time doubles are 1<<2
	histogramSteps   = 1 << histogramSchema // of them
	histogramFirst   = -15                  // the first has all up to 2^-15 s
	histogramLast    = 11                   // the last all beyond the one before it, which ends below 2^11 s
	histogramBuckets = (histogramLast-histogramFirst)*histogramSteps + 1
)

// bucketOf is the index of the first bucket whose bound is not below d.
func bucketOf(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	fraction, exponent := math.Frexp(d.Seconds())
	i := (exponent - 1 - histogramFirst) * histogramSteps
	for _, step := range [histogramSteps]float64{0.5, 0.5946035575013605, 0.7071067811865476, 0.8408964152537145} { // 2^-1 to 2^-1/4
		if fraction > step {
			i++
		}
	}
	return min(max(i, 0), histogramBuckets-1)
}

// bucketSeconds is the upper bound of bucket i.
func bucketSeconds(i int) float64 {
	return math.Exp2(float64(i)/histogramSteps + histogramFirst)
}

func bucketBound(i int) time.Duration { return time.Duration(bucketSeconds(i) * float64(time.Second)) }

func (h *histogram) add(d time.Duration) {
	h.buckets[bucketOf(d)].Add(1)
	h.nanos.Add(uint64(max(d, 0)))
}

// Quantile is the upper bound of the bucket that holds it, 0 while there are
// fewer than least counts.
func (h *histogram) Quantile(q float64, least uint64) time.Duration {
	var total uint64
	var counts [histogramBuckets]uint64
	for i := range counts {
		counts[i] = h.buckets[i].Load()
		total += counts[i]
	}
	if total < least || total == 0 {
		return 0
	}
	want, sum := uint64(q*float64(total)), uint64(0)
	for i, c := range counts {
		if sum += c; sum > want {
			return bucketBound(i)
		}
	}
	return bucketBound(histogramBuckets - 1)
}
