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
	registry, err := runtimes.Discover(ctx, runtimes.Config{Dir: dir, Getenv: os.Getenv})
	if err != nil {
		return report, err
	}
	report.Interpreters = reportInterpreters(registry.Interpreters())
	return report, nil
}

func reportInterpreters(found []runtimes.Interpreter) []cli.Interpreter {
	var list []cli.Interpreter
	for _, i := range found {
		list = append(list, cli.Interpreter{Language: i.Language, Version: i.Version, Path: i.Path, Unusable: i.Unusable})
	}
	return list
}
