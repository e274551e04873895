# make help lists the targets. CONTRIBUTING.md says when each is run.

GO         ?= go
VERSION    ?=
FUZZTIME   ?= 30s
SOAK       ?= 100000
TESTFLAGS  ?= -timeout 14m

MODULE      := github.com/casemate/casemate
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
BUILD       := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false

.DEFAULT_GOAL := build

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

# The command last: it holds the digests of the other two, of its own build.
.PHONY: build
build: ## bin/casemate, bin/casemate-init and bin/casemate-wasm
	mkdir -p bin
	$(BUILD) -ldflags '-s -w' -o bin/casemate-init ./cmd/casemate-init
	$(BUILD) -ldflags '-s -w' -o bin/casemate-wasm ./cmd/casemate-wasm
	init=$$(sha256sum bin/casemate-init) && wasm=$$(sha256sum bin/casemate-wasm) && \
	$(BUILD) -ldflags "-s -w -X main.initDigest=$${init%% *} -X main.wasmDigest=$${wasm%% *} -X main.buildVersion=$(VERSION)" -o bin/casemate ./cmd/casemate

# gVisor's runtime, of a module of its own: minutes of building, once. It is
# moved into place whole.
RUNSC_VERSION = $$(cd tools/runsc && $(GO) list -m -f '{{.Version}}' gvisor.dev/gvisor)

.PHONY: runsc
runsc: ## build gVisor's runsc into the user's cache, for isolation: gvisor
	@set -e; v=$(RUNSC_VERSION); d="$${XDG_CACHE_HOME:-$$HOME/.cache}/casemate/runsc-$$v"; \
	if [ -x "$$d/runsc" ]; then echo "$$d/runsc is there"; exit 0; fi; \
	mkdir -p "$$d"; t=$$(mktemp "$$d/runsc.XXXXXX"); trap 'rm -f "$$t"' EXIT; \
	(cd tools/runsc && $(BUILD) -ldflags "-s -w -X gvisor.dev/gvisor/runsc/version.version=$$v" -o "$$t" gvisor.dev/gvisor/runsc); \
	chmod 755 "$$t"; mv "$$t" "$$d/runsc"; trap - EXIT; echo "$$d/runsc"

.PHONY: demo
demo: build ## an honest and a hijacked planner against real tools
	bin/casemate demo

# What the tests need beside Go: programs, and real MCP clients.
.PHONY: needs
needs: ## install what the tests need (as root), or say what is missing
	.ci/needs
	internal/matrix/testdata/clients.sh .cache/clients inspector mcp1 mcp2 langchain typescript

.PHONY: test
test: needs build ## vet, and every test
	$(GO) vet ./...
	$(GO) test $(TESTFLAGS) ./...

# The import rules are tests of the root package.
.PHONY: check
check: needs build ## what must pass before a commit
	@bad=$$(git ls-files -z --cached --others --exclude-standard -- '*.go' | xargs -0 -r sh -c 'for f; do test -e "$$f" && gofmt -l "$$f"; done; true' sh); \
	if [ -n "$$bad" ]; then echo "gofmt -w these:"; echo "$$bad"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) test .
	$(GO) test -race -timeout 30m ./...

.PHONY: matrix
matrix: needs build ## every server and client of others, unmodified, behind Casemate; writes docs/compatibility.md
	CASEMATE_MATRIX=all CASEMATE_REQUIRE=registry $(GO) test -count 1 -timeout 40m ./internal/matrix

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (30s)
	@set -e; for pkg in $$($(GO) list ./...); do \
	for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
		echo "$${pkg#$(MODULE)/} $$target"; \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
	done; done

.PHONY: soak
soak: build ## SOAK (100000) sandboxes made and killed at random; nothing may be left
	CASEMATE_SOAK=$(SOAK) $(GO) test -count 1 -timeout 0 -run Soak -v ./sandbox/...

.PHONY: bench
bench: build ## what a call costs, beside the other sandboxes of this machine
	bin/casemate bench

.PHONY: performance
performance: build ## measure, and write docs/performance.md and its drawing
	bin/casemate bench --markdown --svg docs/performance.svg > docs/performance.md.new
	mv docs/performance.md.new docs/performance.md

.PHONY: bench-go
bench-go: ## the benchmarks of single packages
	$(GO) test -run '^$$' -bench . -benchmem ./...

.PHONY: bench-mcp
bench-mcp: build ## a call of an MCP server, beside the server alone and other proxies, and large results
	internal/matrix/speed/proxies.sh .cache/speed
	$(BUILD) -o .cache/speed/speed ./internal/matrix/speed
	.cache/speed/speed

.PHONY: docs
docs: build ## write again the schema and the reference of the command line
	bin/casemate schema > schema/casemate.schema.json.new
	mv schema/casemate.schema.json.new schema/casemate.schema.json
	.ci/reference bin/casemate > docs/cli.md.new
	mv docs/cli.md.new docs/cli.md

.PHONY: clean
clean: ## remove what was built
	rm -rf bin .cache
