SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GOLANGCI_VERSION := v2.15.0
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# Whole-program tests need bin/thaw and the machine to themselves; everything else is a unit test.
UNIT = $$(go list ./... | grep -v '^thaw/tests')
# Unit tests that repeat things for the sake of numbers are in these packages.
LONG = $$(git ls-files '*_test.go' | xargs grep -l 'testing\.Short()' | xargs -n 1 dirname | sort -u | sed 's|^|./|')

.PHONY: help run build examples test unit race long whole lint vet bench native clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

run: ## set up, build, start the platform, deploy an example of each language and show what their starts cost; ONCE=1 ends by itself
	@scripts/setup.sh run
	@$(MAKE) --no-print-directory build examples
	@go build -o bin/tools/demo ./scripts/demo
	@exec bin/tools/demo $(if $(ONCE),-once) $(if $(CONFIG),-config $(CONFIG))

build: ## build bin/thaw
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/thaw ./cmd/thaw

examples: ## build the examples into bin/examples
	scripts/examples.sh

test: ## set up, lint, vet, and run the unit tests with the race detector, the long ones without, and the whole-program tests
	@scripts/setup.sh test
	@$(MAKE) --no-print-directory lint vet build examples
	@$(MAKE) --no-print-directory race long whole

unit: ## run the unit tests without the race detector
	go test -count=1 -timeout 15m $(UNIT)

# The detector needs each path once, so -short leaves repetitions out.
race:
	CGO_ENABLED=1 go test -race -short -count=1 -timeout 25m $(UNIT)

long:
	go test -count=1 -timeout 15m $(LONG)

# Tests that mostly wait are parallel.
whole:
	go test -count=1 -p 1 -parallel 3 -timeout 25m ./tests/...

vet: ## go vet and gofmt
	go vet ./...
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "not gofmt-ed: $$unformatted" >&2; exit 1; fi

lint: bin/tools/golangci-lint-$(GOLANGCI_VERSION) ## golangci-lint, whose bans say why
	$< run

bin/tools/golangci-lint-$(GOLANGCI_VERSION):
	@mkdir -p bin/tools
	CGO_ENABLED=0 GOBIN=$(CURDIR)/bin/tools go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@mv bin/tools/golangci-lint $@

bench: ## measure everything against its budget and write docs/benchmarks.md
	@scripts/setup.sh run
	@$(MAKE) --no-print-directory build examples
	@go build -o bin/tools/bench ./bench
	@exec bin/tools/bench $(if $(CONFIG),-config $(CONFIG)) -out docs/benchmarks.md

native: ## build the native code again and check it in
	sandbox/linux/native/build.sh
	runtimes/native/build.sh
	runtimes/extensions/launcher/build.sh
	runtimes/java/build.sh

clean: ## remove what was built; data is kept
	rm -rf bin
