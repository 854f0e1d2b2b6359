# Two commands do everything on a machine with only Go: make run, make test.
BUF      := github.com/bufbuild/buf/cmd/buf@v1.75.0
LINT     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOTEST   ?= go test

.PHONY: help
help: ## what there is
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/rota
	go build -trimpath -ldflags='-s -w' -o bin/rota ./cmd/rota

.PHONY: packages
packages: build ## a .deb and an .rpm of bin/rota, in bin
	cd bench/packages && go run .

.PHONY: run
run: build ## a whole cluster on loopback, doing real work
	bin/rota dev

.PHONY: test
test: ## all tests
	cd bench && $(GOTEST) -count=1 ./openapi ./manifests
	cd bench/packages && $(GOTEST) -count=1 .
	cd test/replay && $(GOTEST) -count=1 .
	$(GOTEST) -count=1 -timeout=20m ./...

.PHONY: race
race: ## all tests under the race detector, but those of processes that are built without it
	$(GOTEST) -count=1 -timeout=20m -race $$(go list ./... | grep -v /test/e2e)

.PHONY: seeds
seeds: ## the control plane on a fake clock: N=10000 histories, from SEED on; SEED=x alone tells that one
	cd scheduler/internal/simtest && GOGC=1000 $(if $(N),ROTA_SEEDS=$(N),$(if $(SEED),,ROTA_SEEDS=10000)) $(if $(SEED),ROTA_SEED=$(SEED)) $(GOTEST) -count=1 -timeout=0 -run='^TestSeeds$$'

.PHONY: seeds-jobs
seeds-jobs: ## jobs through histories of faults on a fake clock: N=10000 of them, from SEED on; SEED=x alone tells that one
	cd scheduler/internal/jobs && GOGC=1000 $(if $(N),ROTA_SEEDS=$(N),$(if $(SEED),,ROTA_SEEDS=10000)) $(if $(SEED),ROTA_SEED=$(SEED)) $(GOTEST) -count=1 -timeout=0 -run='^TestSeeds$$'

REPLAY = cd test/replay && go run . -seed=$(or $(SEED),1) $(if $(ORDER),-order=$(ORDER)) $(if $(ORDERS),-orders=$(ORDERS))

.PHONY: replay
replay: ## one history of make seeds to the byte: SEED=x ORDER=y; ORDERS=n tries so many and tells the first that fails
	@$(REPLAY)

.PHONY: replay-jobs
replay-jobs: ## the same of make seeds-jobs
	@$(REPLAY) -of=jobs

.PHONY: torture
torture: ## real processes killed, stopped and cut off, for a time: FOR=10m
	ROTA_TORTURE=$(or $(FOR),10m) $(GOTEST) -count=1 -timeout=0 -v -run='^(TestTorture|TestKept)$$' ./test/e2e

.PHONY: skew
skew: ## from an earlier revision to this one and back, one process after the other: FROM=REV, the last tag without
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && rev="$(or $(FROM),$$(git describe --tags --abbrev=0))" && \
	  git archive "$$rev" | tar x -C "$$dir" && (cd "$$dir" && go build -o rota.earlier ./cmd/rota) && \
	  ROTA_SKEW="$$dir/rota.earlier" $(GOTEST) -count=1 -v -run='^TestSkew$$' ./test/e2e

.PHONY: engines
engines: ## pools on the clusters of bench/engines, whose programs are built first: minutes, much longer the first time
	@for d in bench/engines/*/; do (cd $$d && echo $$d && $(GOTEST) -count=1 -v -timeout=0 .) || exit 1; done

.PHONY: churn
churn: ## the gateway under load while workers come and go: FOR=10m
	ROTA_TORTURE=$(or $(FOR),10m) $(GOTEST) -race -count=1 -timeout=0 -v -run='^TestChurn' ./gateway

.PHONY: h2spec
h2spec: ## the gateway's HTTP/2 by all cases of h2spec
	cd bench && go run ./h2spec

.PHONY: cgroup
cgroup: ## limits of jobs by cgroup v2, on a kernel of its own under QEMU, whatever this machine has
	go run ./test/cgroup

.PHONY: nightly
nightly: ## what takes a night, and bin/nightly/results.md of it: FUZZ=1m SEEDS=10000 SEEDS_JOBS=10000 TORTURE=10m CHURN=10m
	@FUZZ="$(FUZZ)" SEEDS="$(SEEDS)" SEEDS_JOBS="$(SEEDS_JOBS)" TORTURE="$(TORTURE)" CHURN="$(CHURN)" test/nightly/run

.PHONY: bench-balance
bench-balance: ## the picking rules beside a mutex and a locked ring
	cd bench && go run ./balance

.PHONY: bench-gateway
bench-gateway: ## the gateway beside nginx, HAProxy, Caddy and httputil, by wrk and h2load
	cd bench && go run ./gateway

.PHONY: map
map: ## docs/map.svg: the houses of rota, and who imports whom
	go run ./test/map > docs/map.svg

.PHONY: peers
peers: ## docs/peers.md: who does what with the same bytes, the gateway, nginx, HAProxy or ReverseProxy
	cd bench && go run ./peers ../docs/peers.md

.PHONY: console
console: console/web/node_modules ## the web console: console/static from console/web, which needs Node.js
	cd console/web && npm run -s build

.PHONY: console-check
console-check: console/web/node_modules ## the tests of console/web, and that console/static is what it builds to
	@out=$$(mktemp -d) && trap 'rm -r "$$out"' EXIT && cd console/web && npm run -s test && npm run -s build -- --outDir "$$out" --logLevel warn && \
	  diff -r ../static "$$out" || { echo "console/static is not what console/web builds to: run make console"; exit 1; }

console/web/node_modules: console/web/package-lock.json
	cd console/web && npm ci --no-audit --no-fund
	@touch $@

.PHONY: compat
compat: ## rota with checkouts of the systems that it replaces, which ROTA_COMPAT_<SYSTEM> name: test/compat/README.md
	@test/compat/all

.PHONY: fuzz
fuzz: ## every fuzzer for a while: FOR=20s
	@for p in $$(grep -rl --include='*_test.go' 'func Fuzz' . | grep -v '^./bench/' | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -ho 'func Fuzz[A-Za-z0-9]*' $$p/*_test.go | cut -c6-); do \
	    echo "$$p $$f"; $(GOTEST) -run='^$$' -fuzz="^$$f$$" -fuzztime=$(or $(FOR),20s) $$p || exit 1; done; done

.PHONY: bench
bench: bench-placement bench-cluster bench-program bench-jobs bench-balance bench-hostile ## all figures but the gateway's, which needs other gateways installed; each beside what a user would take instead

.PHONY: lint
lint: cross ## golangci-lint and the rules of imports
	go run $(LINT) run ./...
	go run ./internal/parts -check
	cd bench && go vet ./...
	cd bench/packages && go vet .
	cd test/replay && go vet .

.PHONY: cross
cross: ## everything builds for the systems that we cannot test on, of 32 bits too; on Windows no processes are started
	@for os in windows darwin freebsd; do echo "GOOS=$$os"; GOOS=$$os CGO_ENABLED=0 go build ./... || exit 1; done
	@for arch in 386 arm; do echo "GOARCH=$$arch"; GOOS=linux GOARCH=$$arch CGO_ENABLED=0 go build ./... && \
	  GOOS=linux GOARCH=$$arch CGO_ENABLED=0 go vet ./... || exit 1; done

.PHONY: supply
supply: ## known vulnerabilities, licences, and the list of parts in bin/sbom.json (asks vuln.go.dev)
	mkdir -p bin && .ci/supply bin/sbom.json

.PHONY: bench-jobs
bench-jobs: ## jobs a second and the time to the first output, beside a loop that starts the same commands itself and one over ssh
	cd bench && go run ./jobs

.PHONY: generate
generate: ## code from the .proto files
	go run $(BUF) generate
	go generate ./internal/api/rest ./cmd/rota/internal/cli

.PHONY: bench-cluster
bench-cluster: ## a whole cluster: how long until tasks run, and run again
	cd bench && go run ./cluster

.PHONY: bench-program
bench-program: ## messages of programs beside core NATS and a grpc-go stream, and how long a gang takes to start
	cd bench && go run ./program

.PHONY: bench-hostile
bench-hostile: ## what callers without credentials cost a scheduler: refused requests, and a thousand connections of each hostile kind
	cd bench && go run ./hostile $(HOSTILE)

.PHONY: bench-console
bench-console: ## the console in a real browser while 2,000 workers run 1,000,000 tasks: bytes, memory, first paint; needs Chromium
	cd bench && go run ./console $(CONSOLE)

.PHONY: bench-placement
bench-placement: ## the planner beside franz-go's assignor
	cd bench && go run ./placement -runs 5
