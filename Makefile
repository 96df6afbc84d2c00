# What CI runs is `make check`. Needs Go and, for the race detector, a C compiler.

GO       ?= go
FUZZTIME ?= 40000x
BENCH    ?= .
COUNT    ?= 1

# Tools have a module of their own, so that they never enter the host's
# dependency graph.
TOOL = $(GO) tool -modfile=tools/go.mod

# Folders with a module of their own, or none.
FOREIGN = --exclude-dir=.git --exclude-dir=tools --exclude-dir=peers --exclude-dir=node_modules

# The systems beside this one that everything must compile for.
CROSS = darwin windows

# For preempt: one statement in ODDS is held up, for up to HOLD.
ODDS ?= 5000
HOLD ?= 20ms
PKG  ?= $$($(GO) list ./... | grep -v -e archtest -e modeltest)

.PHONY: build test check fmt vet staticcheck archtest race preempt once cross static fuzz bench peers vuln

# The binary that ships: static, without cgo.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/...

test:
	$(GO) test ./...

# In the order of how soon they answer.
check: fmt archtest vet staticcheck static race once cross fuzz

# archtest is part of race too; here it answers within a second.
archtest:
	$(GO) test ./internal/archtest

fmt:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then \
		echo "not formatted, run gofmt -w on:"; echo "$$unformatted"; exit 1; fi

vet:
	$(GO) vet ./...

staticcheck:
	$(TOOL) staticcheck ./...

static:
	CGO_ENABLED=0 $(GO) build -o /dev/null ./...

# A program with the race detector waits for a second at its end, in case that
# races are still being reported; the tests start hundreds of programs.
race:
	CGO_ENABLED=1 GORACE="atexit_sleep_ms=100 $$GORACE" $(GO) test -race -timeout 20m ./...

# Tests on a machine that holds up goroutines at random: who fails here depends
# on who is first. Without archtest, which reads the imports, and modeltest,
# which has so many steps. Most of the time all wait, so many go side by side.
preempt:
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
		(cd tools && $(GO) run ./preempt -root .. -out "$$dir"); \
		packages="$(PKG)"; \
		PREEMPT_ODDS=$(ODDS) PREEMPT_HOLD=$(HOLD) GOFLAGS="$$GOFLAGS -overlay=$$dir/overlay.json" \
			$(GO) test -count=$(COUNT) -p 8 -timeout 2h $$packages

# Tests of other systems cannot run here, but must compile and link.
cross:
	@set -e; for goos in $(CROSS); do \
		echo "== $$goos: vet"; GOOS=$$goos CGO_ENABLED=0 $(GO) vet ./...; \
		echo "== $$goos: test binaries"; GOOS=$$goos CGO_ENABLED=0 $(GO) test -c -o /dev/null ./...; \
	done

# Every fuzz target of the module, FUZZTIME each; the go command takes one at a
# time. FUZZTIME counts executions: up to Go 1.26 a span of time can end in
# "context deadline exceeded" without any input that fails (go.dev/issue/75804).
# What it finds stays below testdata/fuzz of the package: commit it with the fix.
fuzz:
	@set -e; grep -r --include='*_test.go' $(FOREIGN) -E '^func Fuzz[A-Za-z0-9_]*\(' . \
		| sed -E 's|^(.*)/[^/]*:func (Fuzz[A-Za-z0-9_]*)\(.*|\1 \2|' | sort -u \
		| while read -r dir target; do \
			echo "== $$dir $$target"; \
			$(GO) test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=20x "$$dir" </dev/null; \
		done

# Every benchmark once, for its errors alone: no test runs them otherwise.
once:
	$(GO) test -run='^$$' -bench=. -benchtime=1x ./...

# For two revisions: make bench COUNT=10 > old.txt, then > new.txt, and
# go tool -modfile=tools/go.mod benchstat old.txt new.txt
bench:
	$(GO) test -run='^$$' -bench='$(BENCH)' -benchmem -count=$(COUNT) ./...

# What `mrci bench cast --peer bin/nats-peer` compares a host with. It has a
# module of its own, so that NATS never enters the host's dependency graph.
peers:
	cd bench/peers && CGO_ENABLED=0 $(GO) build -trimpath -o ../../bin/nats-peer ./nats

# Needs a network: the database of vulnerabilities is not part of the tool.
vuln:
	$(TOOL) govulncheck ./...
