package main

import (
	"context"
	"os"

	"thaw/cli"
	"thaw/runtimes"
	"thaw/sandbox/linux/probe"
)

// doctor looks at this machine for the verb of that name.
func doctor(ctx context.Context) (cli.Report, error) {
	var report cli.Report
	for _, c := range probe.Probe(ctx) {
		report.Capabilities = append(report.Capabilities, cli.Capability{Name: c.Name, Present: c.Present, Detail: c.Detail, WithoutIt: c.WithoutIt})
	}
	dir, err := os.MkdirTemp("", "thaw-doctor-")
	if err != nil {
		return report, err
	}
	defer os.RemoveAll(dir)
	registry, err := runtimes.Discover(ctx, runtimes.Config{Dir: dir})
	if err != nil {
		return report, err
	}
	for _, i := range registry.Interpreters() {
		report.Interpreters = append(report.Interpreters, cli.Interpreter{Language: i.Language, Version: i.Version, Path: i.Path})
	}
	return report, nil
}
