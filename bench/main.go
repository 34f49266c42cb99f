// Command bench measures the platform against its budgets, in one run with what each budget is a ratio of: a plain start
// of the same interpreter, a bare net/http echo, and a bare relay, which is net/http in front of one interpreter over a
// socketpair and nothing else, the floor of the warm path. It is no test: it judges nothing and always ends well when
// everything could be measured.
//
// One load generator serves all: keep-alive connections in a tight loop, a prepared request, no HTTP client library.
// What is compared runs in a process of its own, as the platform does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	var o options
	flag.StringVar(&o.binary, "thaw", "bin/thaw", "path of thaw")
	flag.StringVar(&o.examples, "examples", "bin/examples", "directory of the built examples")
	flag.StringVar(&o.config, "config", "", "configuration file; empty: the embedded defaults")
	flag.StringVar(&o.out, "out", "", "write the page to this file as well")
	flag.BoolVar(&o.quick, "quick", false, "a tenth of the work: a look, not a result")
	serve := flag.String("serve", "", "internal: be the named server for comparison")
	interpreter := flag.String("interpreter", "", "internal: the interpreter behind -serve relay-…")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if *serve != "" {
		err = serveBare(ctx, *serve, *interpreter)
	} else {
		err = run(ctx, &o)
	}
	interrupted := ctx.Err() != nil && errors.Is(err, context.Canceled)
	stop()
	switch {
	case err == nil:
	case interrupted:
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	binary   string
	examples string
	config   string
	out      string
	quick    bool
}

// scale shrinks a count for a quick run.
func (o *options) scale(n int) int {
	if o.quick {
		return max(n/10, 3)
	}
	return n
}
