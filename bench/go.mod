module github.com/rota-project/rota/bench

go 1.26.0

replace github.com/rota-project/rota => ../

require (
	github.com/rota-project/rota v0.0.0-00010101000000-000000000000
	github.com/twmb/franz-go v1.22.2
	github.com/twmb/franz-go/pkg/kmsg v1.15.0
)

require (
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/pierrec/lz4/v4 v4.1.33 // indirect
)
