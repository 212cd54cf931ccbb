# The short names for what is done every day. `make` alone lists them. What CI runs is .ci/run.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

RELEASED := proto/duban/v1/testdata/released.binpb
# Packages raced by `make race` and by CI: those with goroutines. What the race detector slows down most (SQLite in
# pure Go, about six times) makes racing everything too slow.
RACE ?= $$(.ci/race-packages)
BENCH ?= .
BENCHPKG ?= ./...

.PHONY: help build test race bench generate lint lint-proto release-descriptors ci nightly

help: ## list these targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build ./bin/duban as it ships (no cgo)
	CGO_ENABLED=0 go build -trimpath -o bin/duban ./cmd/duban

test: ## run every test, as the README says
	go test ./...

race: ## run the tests of packages with goroutines under the race detector (needs gcc)
	packages="$(RACE)"; CGO_ENABLED=1 go test -race -count=1 $$packages

bench: ## run benchmarks: make bench BENCHPKG=./node/store/embedded BENCH=Append
	CGO_ENABLED=0 go test -run '^$$' -bench '$(BENCH)' -benchmem $(BENCHPKG)

generate: ## generate Go from proto/
	@.ci/generate

lint: lint-proto ## lint Go and .proto files
	"$$(.ci/tool golangci-lint)" run ./...

lint-proto: ## lint the .proto files and check them against what was released
	"$$(.ci/tool buf)" lint
	.ci/breaking

release-descriptors: ## after a release: record proto/ as what must not be broken from now on
	@mkdir -p $(dir $(RELEASED))
	"$$(.ci/tool buf)" build proto --exclude-source-info -o $(RELEASED)

ci: ## everything that CI runs
	.ci/run

nightly: ## what takes longer: platforms, fuzzing, benchmarks, more kills
	.ci/nightly
