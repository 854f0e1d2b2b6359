package program

import (
	"context"
	"fmt"
	"testing"
)

// BenchmarkInProcess counts messages from tasks to the scheduler function of a
// program in one process, in both forms.
func BenchmarkInProcess(b *testing.B) {
	for _, tasks := range []int{1, 100} {
		b.Run(fmt.Sprintf("channels/tasks=%d", tasks), func(b *testing.B) {
			var fs Functions
			must(b, fs.RegisterTaskFunc("send", func(in <-chan Msg, out chan<- Msg, _ []string, _ map[string]string) error {
				data := make([]byte, 16)
				<-in
				for range b.N/tasks + 1 {
					out <- Msg{Data: data}
				}
				return nil
			}))
			p := New("bench")
			must(b, p.SpawnTask("send", tasks, Resources{}))
			must(b, p.RegisterSchedFunc(func(in <-chan Msg, out chan<- Msg, _ <-chan Event) {
				for i := range tasks {
					out <- Msg{Task: fmt.Sprintf("send-%d", i)}
				}
				b.ReportAllocs()
				b.ResetTimer()
				for range (b.N/tasks + 1) * tasks {
					<-in
				}
				b.StopTimer()
			}))
			must(b, p.Run(b.Context(), InProcess(WithFunctions(&fs))))
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mmsg/s")
		})
		b.Run(fmt.Sprintf("conn/tasks=%d", tasks), func(b *testing.B) {
			var fs Functions
			must(b, fs.RegisterTaskConn("send", func(ctx context.Context, c Conn) error {
				data := make([]byte, 16)
				for range b.N/tasks + 1 {
					if err := c.Send(ctx, Msg{Data: data}); err != nil {
						return err
					}
				}
				return nil
			}))
			p := New("bench")
			must(b, p.SpawnTask("send", tasks, Resources{}))
			must(b, p.RegisterSchedConn(func(ctx context.Context, c Conn) error {
				b.ReportAllocs()
				b.ResetTimer()
				for range (b.N/tasks + 1) * tasks {
					if _, err := c.Recv(ctx); err != nil {
						return err
					}
				}
				b.StopTimer()
				return nil
			}))
			must(b, p.Run(b.Context(), InProcess(WithFunctions(&fs))))
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mmsg/s")
		})
	}
}
