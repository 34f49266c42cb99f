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
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.binary, "thaw", "bin/thaw", "path of thaw")
	flag.StringVar(&o.examples, "examples", "bin/examples", "directory of the built examples")
	flag.StringVar(&o.config, "config", "", "configuration file of the platform whose warm path and own start are measured; empty: the embedded defaults")
	flag.StringVar(&o.out, "out", "", "write the page to this file as well")
	flag.IntVar(&o.starts, "starts", 200, "starts of each kind; a quarter of it where one takes more than "+expensive.String())
	flag.StringVar(&o.only, "only", "", "measure these parts alone, separated by commas: platform, starts, memory, forks, bursts, plane, events, telemetry, warm")
	flag.BoolVar(&o.quick, "quick", false, "a tenth of the work: a look, not a result")
	serve := flag.String("serve", "", "internal: be the named server for comparison, or with backlog store messages in the directory named last")
	interpreter := flag.String("interpreter", "", "internal: the interpreter behind -serve relay-…, or how many messages")
	flag.Parse()
	o.starts = o.scale(o.starts)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	switch *serve {
	case "":
		err = run(ctx, &o)
	case "backlog":
		err = fillBacklog(ctx, flag.Arg(0), *interpreter)
	default:
		err = serveBare(ctx, *serve, *interpreter)
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
	only     string
	starts   int
	quick    bool
}

// wants reports whether a part is to be measured.
func (o *options) wants(part string) bool {
	return o.only == "" || slices.Contains(strings.Split(o.only, ","), part)
}

// scale shrinks a count for a quick run.
func (o *options) scale(n int) int {
	if o.quick {
		return max(n/10, 3)
	}
	return n
}

// shorten shrinks a time for a quick run.
func (o *options) shorten(d time.Duration) time.Duration {
	if o.quick {
		return d / 10
	}
	return d
}
