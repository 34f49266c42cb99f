// Command thaw is the platform and its command line in one binary.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"thaw/cli"
)

// version is set at build time.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	exit := run(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Terminal: term.IsTerminal(int(os.Stderr.Fd()))}, os.Getenv)
	stop()
	os.Exit(exit)
}

// run is the whole program, for main and for tests.
func run(ctx context.Context, args []string, streams cli.Streams, getenv func(string) string) int {
	return cli.Run(ctx, args, streams, cli.Deps{Up: up, Doctor: doctor, Credentials: ownCredentials, Version: version, Getenv: getenv})
}
